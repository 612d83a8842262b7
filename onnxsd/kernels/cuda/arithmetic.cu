// Arithmetic on eight numbers at a time, in float32.

__device__ __forceinline__ void widen(const Packed& packed, float (&numbers)[kWidth]) {
  widen_pair(packed.x, numbers[0], numbers[1]);
  widen_pair(packed.y, numbers[2], numbers[3]);
  widen_pair(packed.z, numbers[4], numbers[5]);
  widen_pair(packed.w, numbers[6], numbers[7]);
}

__device__ __forceinline__ Packed narrow(const float (&numbers)[kWidth]) {
  Packed packed;
  packed.x = narrow_pair(numbers[0], numbers[1]);
  packed.y = narrow_pair(numbers[2], numbers[3]);
  packed.z = narrow_pair(numbers[4], numbers[5]);
  packed.w = narrow_pair(numbers[6], numbers[7]);
  return packed;
}

__device__ __forceinline__ void add(float (&numbers)[kWidth], const Packed& addend) {
  float wide[kWidth];
  widen(addend, wide);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) numbers[i] += wide[i];
}

__device__ __forceinline__ void add(float (&numbers)[kWidth], const float (&addend)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) numbers[i] += addend[i];
}

// The eight numbers as float16 holds them.
__device__ __forceinline__ void round_to_float16(float (&numbers)[kWidth]) {
  widen(narrow(numbers), numbers);
}

// The middle one of three: a single number that is far from all others is never taken for a pivot.
__device__ __forceinline__ float median(float a, float b, float c) {
  return fmaxf(fminf(a, b), fminf(fmaxf(a, b), c));
}

// x·sigmoid(x). Far below zero the power overflows, and its reciprocal is the 0 that is meant.
__device__ __forceinline__ float silu(float x) {
  return x * reciprocal(1.0f + power_of_two(-1.44269504f * x));
}

// The sum over groups of `size` neighbouring threads of a warp, in a fixed order; `size` is a power of two.
__device__ __forceinline__ float sum_of_neighbours(float x, int size) {
  for (int distance = size / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kWholeWarp, x, distance);
  return x;
}
