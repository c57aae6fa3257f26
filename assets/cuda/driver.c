/* Stands between the program and NVIDIA's driver library, so that a program that was built for CUDA starts where there is no
 * driver: every call then says "no device", which the program turns into a message. The first call of all, cuInit, opens the
 * driver's library; calls.S sends every other call on to what was found there. */
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

extern void *ccdni_cuda_calls[];            /* where each call goes */
extern const char *const ccdni_cuda_names[]; /* its name; ends with NULL */

enum { NO_DEVICE = 100 };

/* Where calls go before the driver is there, and where it does not have them. */
int ccdni_cuda_absent(void) { return NO_DEVICE; }

static int (*driver_init)(unsigned);

static void open_driver(void) {
  void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_GLOBAL);
  if (!driver) return;
  for (size_t i = 0; ccdni_cuda_names[i]; i++) {
    void *call = dlsym(driver, ccdni_cuda_names[i]);
    if (call) ccdni_cuda_calls[i] = call;
  }
  driver_init = (int (*)(unsigned))dlsym(driver, "cuInit");
}

int cuInit(unsigned flags) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, open_driver);
  return driver_init ? driver_init(flags) : NO_DEVICE;
}
