/* A stand-in for NVIDIA's driver and libraries that writes down what it was asked for, so that a run on CUDA can be checked where
 * there is no GPU. recorder.sh compiles this file once for each library, with DRIVER, CUBLAS or CURAND defined. Calls that the
 * program does not make are not there.
 *
 * Device memory is memory of the host. Uploads, downloads and copies are done; launches are counted, and done where kernels.so
 * (kernels.sh) lies beside the driver's library. Without it, no product is made either, and every number that a kernel should have
 * made is a zero. With it, new memory holds numbers that are none, so that whoever reads them too early is found.
 *
 * CUDA_RECORD=FILE          appends a line for each call to FILE:
 *                             launch NAME     a kernel
 *                             gemm            a matrix product of cuBLAS
 *                             upload BYTES    host to device; the driver may wait for the device to have room for it
 *                             download BYTES  device to host; it waits for the device, unless the host's memory is pinned
 *                             copy BYTES      device to device
 *                             memset BYTES
 *                             alloc BYTES
 *                             free
 *                             event           an event was made
 *                             sync            the host waits for a stream, a context or an event
 *                             refused BYTES   an allocation for which there was no memory
 *                             lost CODE       the device is lost from here on
 *                           Lines of one process are in the order of its calls. They are written in blocks of whole lines, the
 *                           last when the process ends; a process that is killed takes its last block with it.
 * CUDA_FAKE_MEMORY=BYTES    how much memory the device has (default 16 GiB). More than that is refused, as the driver does,
 *                           with code 2.
 * CUDA_FAKE_LOST_AFTER=N    a process loses the device after N launches, products included: every call that reaches the device
 *                           fails from then on; after 0, it cannot even be opened. Calls that only ask the driver something, or
 *                           say which context is current, go on working.
 * CUDA_FAKE_LOST_CODE=CODE  what such calls fail with (default 700, an illegal address)
 * CUDA_FAKE_DEVICES=0       there is no device
 * CUDA_FAKE_INIT=CODE       the driver fails with this code when it is opened
 * CUDA_FAKE_VERSION=NUMBER  the CUDA that the driver is for (default 13000)
 * CUDA_FAKE_FULL_AFTER=N    no memory is given after N launches; after 0, the device cannot even be opened
 *
 * Of the errors that the driver finds on the host, these are found here too: launches of no threads or too many, kernels that are
 * not in their module, and allocations of nothing. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>

#define CALL __attribute__((visibility("default")))

/* What the libraries share; it lives in the driver's. */
int recorder_launch(const char *kernel); /* 0, or the code with which the launch fails; a product where there is no name */
int recorder_lost(void);                 /* 0, or the code with which every call fails */
int recorder_computes(void);             /* whether launches and products are done */

#ifdef DRIVER
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  NOT_FOUND = 500,
};

/* ---- what is asked for ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record = -1;
static char lines[1 << 16];
static size_t written;

static size_t memory = (size_t)16 << 30;
static size_t alive;
static long long lost_after = -1;
static int lost_code = 700;
static long long full_after = -1;
static int devices = 1;
static long long launches;
static int lost; /* 0, or the code */

/* Runs a kernel on memory of the host; 0 if it has none of this name. */
static int (*compute)(const char *name, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                      unsigned block_z, void **arguments);

static long long number(const char *name, long long otherwise) {
  const char *value = getenv(name);
  return value && *value ? atoll(value) : otherwise;
}

/* One write of whole lines, so that processes can share a file. */
static void flush(void) {
  for (size_t done = 0; record >= 0 && done < written;) {
    ssize_t wrote = write(record, lines + done, written - done);
    if (wrote <= 0) break;
    done += (size_t)wrote;
  }
  written = 0;
}

/* These three with the lock held. */
static void line(const char *what, const char *name) {
  if (record < 0) return;
  if (written + strlen(what) + strlen(name) + 3 > sizeof lines) flush();
  written += (size_t)snprintf(lines + written, sizeof lines - written, *name ? "%s %s\n" : "%s%s\n", what, name);
}

static void line_of_number(const char *what, size_t number) {
  char digits[24];
  snprintf(digits, sizeof digits, "%zu", number);
  line(what, digits);
}

static void lose(void) {
  if (lost || lost_after < 0 || launches < lost_after) return;
  lost = lost_code;
  line_of_number("lost", (size_t)lost);
  flush(); /* the process may not end as it should */
}

__attribute__((constructor)) static void open_record(void) {
  memory = (size_t)number("CUDA_FAKE_MEMORY", (long long)memory);
  lost_after = number("CUDA_FAKE_LOST_AFTER", lost_after);
  lost_code = (int)number("CUDA_FAKE_LOST_CODE", lost_code);
  full_after = number("CUDA_FAKE_FULL_AFTER", full_after);
  devices = (int)number("CUDA_FAKE_DEVICES", devices);
  const char *path = getenv("CUDA_RECORD");
  if (path && *path) record = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  lose();
  Dl_info here;
  char beside[4096];
  if (dladdr((void *)recorder_launch, &here) && here.dli_fname) {
    const char *end = strrchr(here.dli_fname, '/');
    int length = end ? (int)(end - here.dli_fname) + 1 : 0;
    snprintf(beside, sizeof beside, "%.*skernels.so", length, here.dli_fname);
    void *kernels = access(beside, R_OK) ? NULL : dlopen(beside, RTLD_NOW);
    if (kernels) *(void **)&compute = dlsym(kernels, "kernels_launch");
    else if (!access(beside, R_OK)) {
      fprintf(stderr, "recorder: %s\n", dlerror());
      abort();
    }
  }
}

CALL int recorder_computes(void) { return compute != NULL; }

__attribute__((destructor)) static void close_record(void) {
  pthread_mutex_lock(&lock);
  flush();
  pthread_mutex_unlock(&lock);
}

/* What a call that reaches the device does first. */
static int reach(const char *what) {
  pthread_mutex_lock(&lock);
  int code = lost;
  if (!code && what) line(what, "");
  pthread_mutex_unlock(&lock);
  return code;
}

static int move(const char *what, size_t bytes) {
  pthread_mutex_lock(&lock);
  int code = lost;
  if (!code) line_of_number(what, bytes);
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int recorder_launch(const char *kernel) {
  pthread_mutex_lock(&lock);
  int code = lost;
  if (!code) {
    launches++;
    if (kernel) line("launch", kernel);
    else line("gemm", "");
    lose();
  }
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int recorder_lost(void) { return reach(NULL); }

/* ---- devices and contexts ---- */

static char the_context; /* its address is the handle */
static _Thread_local void *current;

CALL int cuInit(unsigned flags) {
  (void)flags;
  return devices > 0 ? (int)number("CUDA_FAKE_INIT", SUCCESS) : NO_DEVICE;
}

CALL int cuDriverGetVersion(int *version) {
  *version = (int)number("CUDA_FAKE_VERSION", 13000);
  return SUCCESS;
}

CALL int cuDeviceGetCount(int *count) {
  *count = devices;
  return SUCCESS;
}

CALL int cuDeviceGet(int *device, int index) {
  if (index < 0 || index >= devices) return INVALID_DEVICE;
  *device = index;
  return SUCCESS;
}

CALL int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  switch (attribute) {               /* CU_DEVICE_ATTRIBUTE_... */
    case 1: *value = 1024; break;    /* MAX_THREADS_PER_BLOCK */
    case 8: *value = 49152; break;   /* MAX_SHARED_MEMORY_PER_BLOCK */
    case 10: *value = 32; break;     /* WARP_SIZE */
    case 16: *value = 108; break;    /* MULTIPROCESSOR_COUNT */
    case 75: *value = 8; break;      /* COMPUTE_CAPABILITY_MAJOR */
    case 115: *value = 1; break;     /* MEMORY_POOLS_SUPPORTED */
    default: *value = 0;             /* COMPUTE_CAPABILITY_MINOR, and all that is not asked for */
  }
  return SUCCESS;
}

CALL int cuDevicePrimaryCtxRetain(void **context, int device) {
  (void)device;
  *context = &the_context;
  return full_after == 0 ? OUT_OF_MEMORY : reach(NULL);
}

CALL int cuDevicePrimaryCtxRelease_v2(int device) {
  (void)device;
  return reach(NULL);
}

CALL int cuCtxGetCurrent(void **context) {
  *context = current;
  return SUCCESS;
}

CALL int cuCtxSetCurrent(void *context) {
  current = context;
  return SUCCESS;
}

CALL int cuCtxSynchronize(void) { return reach("sync"); }

/* ---- errors ---- */

static const struct {
  int code;
  const char *words;
} errors[] = {
    {SUCCESS, "no error"},
    {INVALID_VALUE, "invalid argument"},
    {OUT_OF_MEMORY, "out of memory"},
    {46, "CUDA-capable device(s) is/are busy or unavailable"},
    {NO_DEVICE, "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "invalid device ordinal"},
    {214, "uncorrectable ECC error encountered"},
    {NOT_FOUND, "named symbol not found"},
    {700, "an illegal memory access was encountered"},
    {719, "unspecified launch failure"},
    {803, "system has unsupported display driver / cuda driver combination"},
    {999, "unknown error"},
};

CALL int cuGetErrorString(int code, const char **words) {
  *words = NULL;
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) *words = errors[i].words;
  return *words ? SUCCESS : INVALID_VALUE;
}

/* ---- memory ---- */

/* Where an allocation's size and beginning are kept: right before it. Like the driver's, allocations begin at 256 bytes. */
struct allocation {
  size_t bytes;
  void *begin;
};

CALL int cuMemAllocAsync(uint64_t *pointer, size_t bytes, void *stream) {
  (void)stream;
  pthread_mutex_lock(&lock);
  int code = lost;
  if (!code && !bytes) code = INVALID_VALUE; /* drivers do not agree on it */
  if (!code && (bytes > memory || alive > memory - bytes)) code = OUT_OF_MEMORY;
  if (!code && full_after >= 0 && launches >= full_after) code = OUT_OF_MEMORY;
  if (!code) {
    char *begin = calloc(1, bytes + 512);
    if (begin) {
      uintptr_t at = ((uintptr_t)begin + sizeof(struct allocation) + 255) & ~(uintptr_t)255;
      if (compute) memset((void *)at, 0xff, bytes);
      ((struct allocation *)at)[-1] = (struct allocation){bytes, begin};
      *pointer = at;
      alive += bytes;
    } else {
      code = OUT_OF_MEMORY;
    }
  }
  if (!code) line_of_number("alloc", bytes);
  else if (code == OUT_OF_MEMORY) line_of_number("refused", bytes);
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int cuMemFreeAsync(uint64_t pointer, void *stream) {
  (void)stream;
  if (!pointer) return INVALID_VALUE;
  pthread_mutex_lock(&lock);
  int code = lost;
  if (!code) {
    struct allocation *allocation = (struct allocation *)(uintptr_t)pointer - 1;
    alive -= allocation->bytes;
    free(allocation->begin);
    line("free", "");
  }
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int cuMemGetInfo_v2(size_t *unused, size_t *total) {
  pthread_mutex_lock(&lock);
  int code = lost;
  *unused = memory - alive;
  *total = memory;
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  (void)stream;
  int code = move("upload", bytes);
  if (!code) memcpy((void *)(uintptr_t)to, from, bytes);
  return code;
}

/* Into pageable memory, which is all that the program has, the driver returns from this when the bytes have arrived: it is a
 * wait of its own, with no `sync` beside it. */
CALL int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  (void)stream;
  int code = move("download", bytes);
  if (!code) memcpy(to, (const void *)(uintptr_t)from, bytes);
  return code;
}

CALL int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  (void)stream;
  int code = move("copy", bytes);
  if (!code) memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
  return code;
}

CALL int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
  (void)stream;
  int code = move("memset", bytes);
  if (!code) memset((void *)(uintptr_t)to, value, bytes);
  return code;
}

/* ---- streams and events: everything is done at once, on one stream ---- */

static char a_stream, an_event; /* their addresses are the handles */

CALL int cuStreamCreate(void **stream, unsigned flags) {
  (void)flags;
  *stream = &a_stream;
  return reach(NULL);
}

CALL int cuStreamDestroy_v2(void *stream) {
  (void)stream;
  return reach(NULL);
}

CALL int cuStreamSynchronize(void *stream) {
  (void)stream;
  return reach("sync");
}

CALL int cuEventCreate(void **event, unsigned flags) {
  (void)flags;
  *event = &an_event;
  return reach("event");
}

CALL int cuEventDestroy_v2(void *event) {
  (void)event;
  return reach(NULL);
}

CALL int cuEventSynchronize(void *event) {
  (void)event;
  return reach("sync");
}

/* ---- modules and kernels ---- */

struct kernel {
  struct kernel *next;
  char name[];
};

struct module {
  char *text; /* in PTX, or nothing where it is something else */
  struct kernel *kernels;
};

CALL int cuModuleLoadData(void **handle, const void *image) {
  int code = reach(NULL);
  if (code) return code;
  struct module *module = calloc(1, sizeof *module);
  const char *text = image;
  if (text[0] == '/' || text[0] == '.' || text[0] == '\n') module->text = strdup(text);
  *handle = module;
  return SUCCESS;
}

CALL int cuModuleUnload(void *handle) {
  struct module *module = handle;
  free(module->text); /* the names of its kernels stay */
  free(module);
  return reach(NULL);
}

static int has(const char *text, const char *name) {
  size_t length = strlen(name);
  for (const char *entry = text; (entry = strstr(entry, ".entry "));) {
    entry += strlen(".entry ");
    if (!strncmp(entry, name, length) && strchr("( \n", entry[length])) return 1;
  }
  return 0;
}

CALL int cuModuleGetFunction(void **handle, void *from, const char *name) {
  struct module *module = from;
  pthread_mutex_lock(&lock);
  int code = lost;
  struct kernel *kernel = module->kernels;
  while (kernel && strcmp(kernel->name, name)) kernel = kernel->next;
  if (!code && !kernel && module->text && !has(module->text, name)) code = NOT_FOUND;
  if (!code && !kernel) {
    kernel = calloc(1, sizeof *kernel + strlen(name) + 1);
    strcpy(kernel->name, name);
    kernel->next = module->kernels;
    module->kernels = kernel;
  }
  *handle = kernel;
  pthread_mutex_unlock(&lock);
  return code;
}

CALL int cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared, void *stream, void **arguments, void **extra) {
  (void)stream, (void)extra;
  struct kernel *kernel = handle;
  if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z) return INVALID_VALUE;
  if (grid_x > 2147483647u || grid_y > 65535 || grid_z > 65535 || block_z > 64) return INVALID_VALUE;
  if ((uint64_t)block_x * block_y * block_z > 1024 || shared > 49152) return INVALID_VALUE;
  int code = recorder_launch(kernel->name);
  if (!code && compute && !compute(kernel->name, grid_x, grid_y, grid_z, block_x, block_y, block_z, arguments)) {
    fprintf(stderr, "recorder: no kernel %s was compiled for the host\n", kernel->name);
    return NOT_FOUND;
  }
  return code;
}
#endif

/* NVIDIA does not say whether handles of the two libraries can be given back when the device is lost. Here they cannot, which
 * is the harder case for the program. */
#ifdef CUBLAS
#include <string.h>

enum { CUBLAS_INVALID_VALUE = 7, CUBLAS_EXECUTION_FAILED = 13, CUBLAS_INTERNAL_ERROR = 14, CUBLAS_NOT_SUPPORTED = 15 };

static char a_handle; /* its address is the handle */

CALL int cublasCreate_v2(void **handle) {
  *handle = &a_handle;
  return recorder_lost() ? 1 : 0; /* CUBLAS_STATUS_NOT_INITIALIZED */
}

CALL int cublasDestroy_v2(void *handle) {
  (void)handle;
  return recorder_lost() ? CUBLAS_INTERNAL_ERROR : 0;
}

CALL int cublasSetStream_v2(void *handle, void *stream) {
  (void)handle, (void)stream;
  return 0;
}

static int gemm(int m, int n, int k) {
  if (m < 0 || n < 0 || k < 0) return CUBLAS_INVALID_VALUE;
  return recorder_launch(NULL) ? CUBLAS_EXECUTION_FAILED : 0;
}

/* TF32: a factor has 10 bits behind the point. */
static float rounded(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x1000) & ~(uint32_t)0x1fff;
  memcpy(&x, &bits, sizeof bits);
  return x;
}
static float exactly(float x) { return x; }
static double exactly_f64(double x) { return x; }

/* C = alpha op(A) op(B) + beta C for each of the batch, columns of a matrix one behind the other, as cuBLAS has them. */
#define PRODUCT(NAME, T, FACTOR)                                                                                               \
  static void NAME(int ta, int tb, int m, int n, int k, T alpha, const T *a, int lda, long long next_a, const T *b, int ldb,   \
                   long long next_b, T beta, T *c, int ldc, long long next_c, int batch) {                                     \
    for (int q = 0; q < batch; q++, a += next_a, b += next_b, c += next_c)                                                     \
      for (int j = 0; j < n; j++)                                                                                              \
        for (int i = 0; i < m; i++) {                                                                                          \
          T sum = 0, *at = &c[i + (size_t)j * ldc];                                                                            \
          for (int p = 0; p < k; p++)                                                                                          \
            sum += FACTOR(ta ? a[p + (size_t)i * lda] : a[i + (size_t)p * lda]) *                                              \
                   FACTOR(tb ? b[j + (size_t)p * ldb] : b[p + (size_t)j * ldb]);                                               \
          *at = alpha * sum + (beta == 0 ? 0 : beta * *at);                                                                    \
        }                                                                                                                      \
  }
PRODUCT(product, float, exactly)
PRODUCT(product_tf32, float, rounded)
PRODUCT(product_f64, double, exactly_f64)

CALL int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int type_a,
                                    int lda, long long next_a, const void *b, int type_b, int ldb, long long next_b,
                                    const void *beta, void *c, int type_c, int ldc, long long next_c, int batch, int compute,
                                    int algorithm) {
  (void)handle, (void)algorithm;
  int code = gemm(m, n, k);
  if (code || !recorder_computes()) return code;
  /* CUDA_R_32F, and CUBLAS_COMPUTE_32F or CUBLAS_COMPUTE_32F_FAST_TF32 */
  if (type_a || type_b || type_c || (compute != 68 && compute != 77)) return CUBLAS_NOT_SUPPORTED;
  (compute == 77 ? product_tf32 : product)(ta, tb, m, n, k, *(const float *)alpha, a, lda, next_a, b, ldb, next_b,
                                           *(const float *)beta, c, ldc, next_c, batch);
  return 0;
}

CALL int cublasDgemmStridedBatched(void *handle, int ta, int tb, int m, int n, int k, const double *alpha, const double *a, int lda,
                                   long long next_a, const double *b, int ldb, long long next_b, const double *beta, double *c,
                                   int ldc, long long next_c, int batch) {
  (void)handle;
  int code = gemm(m, n, k);
  if (!code && recorder_computes()) product_f64(ta, tb, m, n, k, *alpha, a, lda, next_a, b, ldb, next_b, *beta, c, ldc, next_c, batch);
  return code;
}
#endif

#ifdef CURAND
enum { CURAND_LAUNCH_FAILURE = 201, CURAND_INITIALIZATION_FAILED = 203 };

static char a_generator; /* its address is the handle */

CALL int curandCreateGenerator(void **generator, int kind) {
  (void)kind;
  *generator = &a_generator;
  return recorder_lost() ? CURAND_INITIALIZATION_FAILED : 0;
}

CALL int curandDestroyGenerator(void *generator) {
  (void)generator;
  return recorder_lost() ? CURAND_LAUNCH_FAILURE : 0;
}

CALL int curandSetStream(void *generator, void *stream) {
  (void)generator, (void)stream;
  return 0;
}

CALL int curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) {
  (void)generator, (void)seed;
  return 0;
}
#endif
