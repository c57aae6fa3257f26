/* Runs kernels on the host, block after block. A thread of a block runs until it ends or has to wait for others; while it waits, it
 * keeps the fiber that it runs on. */
#include <csetjmp>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <ucontext.h>
#include <unordered_map>
#include <vector>

#include "device.hpp"
#include "units.hpp"

Index threadIdx, blockIdx, blockDim, gridDim;
unsigned char exchanged[1024][16];

namespace {

enum class Waits { No, ForBlock, ForWarp };

struct Fiber {
  static constexpr size_t STACK = 64 << 10;
  std::unique_ptr<char[]> stack{new char[STACK]};
  ucontext_t entry;
  jmp_buf at;
  bool begun = false, ended = true, released = false;
  Waits waits = Waits::No;
  unsigned number = 0; /* of the thread in its block */
  Index thread{};
};

jmp_buf scheduler;
Fiber *current;
void (*kernel)(void **);
void **arguments;
unsigned next, count; /* threads of the block: those from `next` on have not begun */

/* Back to the scheduler. A jump costs no system call, as a swap of contexts does. */
void leave(Waits waits) {
  current->waits = waits;
  if (!_setjmp(current->at)) _longjmp(scheduler, 1);
}

void body() {
  for (;;) {
    while (next < count) {
      unsigned n = current->number = next++;
      current->thread = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
      threadIdx = current->thread;
      kernel(arguments);
    }
    current->ended = true;
    leave(Waits::No);
  }
}

/* Until it ends or waits. */
void go_on(Fiber &fiber) {
  current = &fiber;
  threadIdx = fiber.thread;
  if (_setjmp(scheduler)) return;
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  getcontext(&fiber.entry);
  fiber.entry.uc_stack.ss_sp = fiber.stack.get();
  fiber.entry.uc_stack.ss_size = Fiber::STACK;
  fiber.entry.uc_link = nullptr; /* it never returns */
  makecontext(&fiber.entry, body, 0);
  setcontext(&fiber.entry);
}

[[noreturn]] void fail(const char *what) {
  fprintf(stderr, "a kernel on the host: %s\n", what);
  abort();
}

void run_block(std::vector<std::unique_ptr<Fiber>> &fibers) {
  static auto &waiting = *new std::vector<Fiber *>;
  next = 0;
  count = blockDim.x * blockDim.y * blockDim.z;
  while (next < count) {
    if (waiting.size() == fibers.size()) fibers.emplace_back(new Fiber);
    Fiber &fiber = *fibers[waiting.size()];
    fiber.ended = false;
    go_on(fiber);
    if (!fiber.ended) waiting.push_back(&fiber);
  }
  while (!waiting.empty()) {
    bool all_at_block = true, some = false;
    for (size_t first = 0, end; first < waiting.size(); first = end) {
      bool warp = true;
      for (end = first; end < waiting.size() && waiting[end]->number / 32 == waiting[first]->number / 32; end++)
        warp &= waiting[end]->waits == Waits::ForWarp, all_at_block &= waiting[end]->waits == Waits::ForBlock;
      for (size_t i = first; i < end; i++) waiting[i]->released = warp;
      some |= warp;
    }
    if (!some && !all_at_block) fail("its threads wait for each other for ever");
    size_t kept = 0;
    for (size_t i = 0; i < waiting.size(); i++) {
      if (waiting[i]->released || all_at_block) go_on(*waiting[i]);
      if (!waiting[i]->ended) waiting[kept++] = waiting[i];
    }
    waiting.resize(kept);
  }
}

} // namespace

void __syncthreads() { leave(Waits::ForBlock); }
void wait_for_warp() { leave(Waits::ForWarp); }

/* Runs a kernel; 0 if there is none of this name. */
extern "C" __attribute__((visibility("default"))) int kernels_launch(const char *name, unsigned grid_x, unsigned grid_y,
                                                                     unsigned grid_z, unsigned block_x, unsigned block_y,
                                                                     unsigned block_z, void **given) {
  static std::mutex mutex;
  std::lock_guard guard(mutex);
  /* Never destroyed: a thread may launch while the process ends. */
  static auto &kernels = *new std::unordered_map<std::string, void (*)(void **)>;
  static auto &fibers = *new std::vector<std::unique_ptr<Fiber>>;
  if (kernels.empty())
    for (const Kernel *unit : units)
      for (; unit->name; unit++) kernels[unit->name] = unit->call;
  auto found = kernels.find(name);
  if (found == kernels.end()) return 0;
  kernel = found->second;
  arguments = given;
  gridDim = {grid_x, grid_y, grid_z};
  blockDim = {block_x, block_y, block_z};
  for (unsigned z = 0; z < grid_z; z++)
    for (unsigned y = 0; y < grid_y; y++)
      for (unsigned x = 0; x < grid_x; x++) {
        blockIdx = {x, y, z};
        run_block(fibers);
      }
  return 1;
}
