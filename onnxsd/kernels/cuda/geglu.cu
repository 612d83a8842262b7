// GEGLU (Shazeer 2020): the left half of each row times the gelu of its right half, after the bias.

constexpr int kRowsPerThread = 2;

// The tail of the normal distribution beyond a ≥ 0: exp(−a²/2) times a polynomial in 1/(1 + 0.35·a), whose
// coefficients scripts/fit_gelu.py finds. Relative error below 1e-5 up to a = 9, which the float16 result
// does not show; beyond, even the largest float16 number times it is 0.
__device__ __forceinline__ float normal_tail(float a) {
  const float t = reciprocal(fmaf(0.35f, a, 1.0f));
  float polynomial = -1.045866623e-01f;
  polynomial = fmaf(polynomial, t, 2.982679071e-01f);
  polynomial = fmaf(polynomial, t, -9.938144872e-03f);
  polynomial = fmaf(polynomial, t, 1.835655263e-01f);
  polynomial = fmaf(polynomial, t, 1.321823833e-01f);
  polynomial = fmaf(polynomial, t, 5.078160643e-04f);
  return polynomial * power_of_two(-0.72134752f * a * a);
}

// x·Φ(x) with the normal distribution's Φ, exact to float16 on both sides.
__device__ __forceinline__ float gelu(float x) {
  const float small = x * normal_tail(fabsf(x));
  return x < 0.0f ? small : x - small;
}

// x (rows, 2, vectors), bias (2, vectors), y (rows, vectors), in vectors of eight.
extern "C" __global__ void __launch_bounds__(256) geglu(const Packed* x, const Packed* bias, Packed* y, int rows,
                                                        int vectors) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int vector = static_cast<int>(thread % vectors);
  const int first = static_cast<int>(thread / vectors) * kRowsPerThread;
  if (first >= rows) return;
  Packed left[kRowsPerThread], right[kRowsPerThread];
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    const long long at = static_cast<long long>(first + i) * 2 * vectors + vector;
    if (first + i < rows) {
      left[i] = x[at];
      right[i] = x[at + vectors];
    }
  }
  float left_bias[kWidth], right_bias[kWidth];
  widen(bias[vector], left_bias);
  widen(bias[vector + vectors], right_bias);
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    if (first + i < rows) {
      float value[kWidth], gate[kWidth];
      widen(left[i], value);
      widen(right[i], gate);
#pragma unroll
      for (int k = 0; k < kWidth; ++k) value[k] = (value[k] + left_bias[k]) * gelu(gate[k] + right_bias[k]);
      y[static_cast<long long>(first + i) * vectors + vector] = narrow(value);
    }
  }
}
