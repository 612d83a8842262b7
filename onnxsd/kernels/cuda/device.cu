// What every kernel here is made of: eight float16 numbers in one 16-byte access, and single instructions.
//
// There are no headers where these kernels are compiled, so what cuda_fp16.h would give is written as PTX.

constexpr int kWidth = 8;  // float16 numbers in 16 bytes
constexpr unsigned kWholeWarp = 0xffffffffu;

// Eight float16 numbers as they lie in memory.
using Packed = uint4;

__device__ __forceinline__ void widen_pair(unsigned pair, float& low, float& high) {
  asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
      : "=f"(low), "=f"(high)
      : "r"(pair));
}

// Both numbers rounded to nearest even.
__device__ __forceinline__ unsigned narrow_pair(float low, float high) {
  unsigned pair;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
#else
  asm("{ .reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h}; }"
      : "=r"(pair)
      : "f"(low), "f"(high));
#endif
  return pair;
}

// 2^x, within 2 units in the last place; what is below 2^-126 is 0.
__device__ __forceinline__ float power_of_two(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// 1/x, within 1 unit in the last place.
__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// 1/√x, within 2 units in the last place.
__device__ __forceinline__ float reciprocal_root(float x) {
  float result;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
