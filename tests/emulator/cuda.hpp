// The words of CUDA that the kernels use, on a host where each thread of a block is a fiber (block.hpp).

#pragma once

#include <cmath>

#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// One block runs at a time, so its shared memory can be static: the .bss of this library, which holds nothing
// else (launch.cpp poisons it before each block).
#define __shared__ static

// What the emulator itself keeps lies apart from the .bss.
#define ONNXSD_KEPT __attribute__((section(".emulator")))

struct uint3 {
  unsigned x, y, z;
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

struct alignas(8) float2 {
  float x, y;
};

struct alignas(16) float4 {
  float x, y, z, w;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }

extern uint3 threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
float __shfl_sync(unsigned mask, float value, int lane);
float __shfl_xor_sync(unsigned mask, float value, int distance);
float __shfl_down_sync(unsigned mask, float value, unsigned distance);
