/* The part of CUDA's language that candle's kernels use, for a compiler of C++: what is the same in each of its files. A block's
 * threads are fibers of one thread (launch.cpp), so that nothing here is atomic, and shared memory is a static variable. */
#pragma once
#include <assert.h>
#include <math.h>
#include <stdint.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

/* Older than any GPU with numbers of 16 bits: their kernels are left out. */
#define __CUDA_ARCH__ 520
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

#define __host__
#define __device__
#ifndef __global__
#define __global__
#endif
#define __forceinline__ inline
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

/* Waits for the other threads of the block, or of the warp, that have not ended. */
void __syncthreads();
void wait_for_warp();
/* Sixteen bytes of each thread of the block. */
extern unsigned char exchanged[1024][16];

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance, int = 32) {
  static_assert(sizeof(T) <= 16);
  unsigned here = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  memcpy(exchanged[here], &value, sizeof value);
  wait_for_warp();
  memcpy(&value, exchanged[here ^ unsigned(distance)], sizeof value);
  wait_for_warp();
  return value;
}

template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(b) : T(a);
}

template <typename T>
T atomicAdd(T *at, std::type_identity_t<T> value) {
  return std::exchange(*at, *at + value);
}
template <typename T>
T atomicMin(T *at, std::type_identity_t<T> value) {
  return std::exchange(*at, std::min(*at, value));
}
template <typename T>
T atomicMax(T *at, std::type_identity_t<T> value) {
  return std::exchange(*at, std::max(*at, value));
}
template <typename T>
T atomicCAS(T *at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return std::exchange(*at, *at == expected ? value : *at);
}

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double normcdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }
inline float normcdff(float x) { return float(normcdf(x)); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }

/* Numbers of 16 and 8 bits, which the program does not compute with: for templates that name them. */
struct __half {
  unsigned short bits;
};
struct __nv_fp8_e4m3 {
  unsigned char __x;
  __nv_fp8_e4m3(float = 0) { abort(); }
};
enum { __NV_E4M3 };
inline __half __nv_cvt_fp8_to_halfraw(unsigned char, int) { abort(); }
inline float __half2float(__half) { abort(); }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }
inline __half __ushort_as_half(unsigned x) { return {(unsigned short)x}; }
inline __half __hmax_nan(__half, __half) { abort(); }
inline __half __hmin_nan(__half, __half) { abort(); }

namespace cuda::std {
using ::std::numeric_limits;
}

/* A kernel by its name. Arguments come as the driver gets them: where each lies. */
struct Kernel {
  const char *name;
  void (*call)(void **);
};

template <typename... A>
struct Signature {
  template <auto kernel, size_t... I>
  static void call(void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<A *>(arguments[I])...);
  }
};
template <typename... A>
Signature<A...> signature(void (*)(A...));
template <auto kernel, typename... A>
void call_with(void **arguments, Signature<A...>) {
  Signature<A...>::template call<kernel>(arguments, std::index_sequence_for<A...>{});
}
template <auto kernel>
void call(void **arguments) {
  call_with<kernel>(arguments, decltype(signature(kernel)){});
}
