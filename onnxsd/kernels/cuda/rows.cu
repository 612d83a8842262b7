// Layer normalization and softmax of (rows, width): one block a row, which is read once and stays in registers.

constexpr int kMostWarps = 32;

struct Sum {
  static __device__ __forceinline__ float of(float a, float b) { return a + b; }
};

struct Largest {
  static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

// Numbers of each thread joined over the block, in a fixed order: over each warp, then over the warps. A kernel
// may ask for a kind of it, so many numbers by one operation, only once: each has one place in shared memory.
template <class Join, int kCount>
__device__ __forceinline__ void join_over_block(float (&numbers)[kCount]) {
  __shared__ float warps[kMostWarps][kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
      numbers[i] = Join::of(numbers[i], __shfl_xor_sync(kWholeWarp, numbers[i], distance));
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32][i] = numbers[i];
  }
  __syncthreads();
  const int count = blockDim.x / 32;
#pragma unroll
  for (int i = 0; i < kCount; ++i) numbers[i] = warps[0][i];
  for (int warp = 1; warp < count; ++warp) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) numbers[i] = Join::of(numbers[i], warps[warp][i]);
  }
}

// y = (s − mean)/√(variance + epsilon)·gamma + beta of s = x + skip + bias, a vector of eight for each thread;
// skip, bias and sum may be null; inverse_width is 1/(8·vectors). The mean comes first, then the distances from
// it, whose own mean is what its rounding cost.
extern "C" __global__ void __launch_bounds__(256) layer_norm(const Packed* x, const Packed* skip, const Packed* bias,
                                                             const Packed* gamma, const Packed* beta, Packed* y,
                                                             Packed* sum, int vectors, float inverse_width,
                                                             float epsilon) {
  const long long row = static_cast<long long>(blockIdx.x) * vectors;
  const int at = threadIdx.x;
  const bool there = at < vectors;
  float numbers[kWidth] = {};
  Packed factor = {}, offset = {};
  if (there) {
    widen(x[row + at], numbers);
    if (skip) add(numbers, skip[row + at]);
    if (bias) add(numbers, bias[at]);
    factor = gamma[at];
    offset = beta[at];
    if (skip || bias) round_to_float16(numbers);
    if (sum) sum[row + at] = narrow(numbers);
  }
  float total[1] = {};
#pragma unroll
  for (int i = 0; i < kWidth; ++i) total[0] += numbers[i];
  join_over_block<Sum>(total);
  const float mean = total[0] * inverse_width;
  float distances[2] = {};  // their sum, and that of their squares
  if (there) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      numbers[i] -= mean;
      distances[0] += numbers[i];
      distances[1] = fmaf(numbers[i], numbers[i], distances[1]);
    }
  }
  join_over_block<Sum>(distances);
  if (!there) return;
  const float rest = distances[0] * inverse_width;
  const float inverse = reciprocal_root(fmaxf(distances[1] * inverse_width - rest * rest, 0.0f) + epsilon);
  float gain[kWidth], shift[kWidth];
  widen(factor, gain);
  widen(offset, shift);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float slope = gain[i] * inverse;
    numbers[i] = fmaf(numbers[i], slope, fmaf(-rest, slope, shift[i]));
  }
  y[row + at] = narrow(numbers);
}

// y = exp(x − max)/Σ exp(x − max) of each row; a thread has up to `kVectors` of its vectors.
template <int kVectors>
__device__ __forceinline__ void softmax(const Packed* x, Packed* y, int vectors) {
  const long long row = static_cast<long long>(blockIdx.x) * vectors;
  const int first = threadIdx.x, step = blockDim.x;
  float numbers[kVectors][kWidth];
  Packed packed[kVectors];
  float largest[1] = {-3.402823466e38f};
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) packed[k] = x[row + first + k * step];
  }
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
      widen(packed[k], numbers[k]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) largest[0] = fmaxf(largest[0], numbers[k][i]);
    }
  }
  join_over_block<Largest>(largest);
  const float shift = 1.44269504f * largest[0];
  float sum[1] = {};
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        numbers[k][i] = power_of_two(fmaf(1.44269504f, numbers[k][i], -shift));
        sum[0] += numbers[k][i];
      }
    }
  }
  join_over_block<Sum>(sum);
  const float inverse = 1.0f / sum[0];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) numbers[k][i] *= inverse;
      y[row + first + k * step] = narrow(numbers[k]);
    }
  }
}

#define ONNXSD_SOFTMAX(count)                                                                                     \
  extern "C" __global__ void __launch_bounds__(512) softmax_##count(const Packed* x, Packed* y, int vectors) { \
    softmax<count>(x, y, vectors);                                                                                \
  }

ONNXSD_SOFTMAX(1)
ONNXSD_SOFTMAX(2)
ONNXSD_SOFTMAX(4)
ONNXSD_SOFTMAX(8)
