// Layer normalization and softmax of (rows, width): one block a row, which is read once and stays in registers.

constexpr int kMostWarps = 32;

// The sum over a block, in a fixed order: of each warp, then of the warps' sums.
__device__ __forceinline__ float sum_of_block(float own) {
  __shared__ float warps[kMostWarps];
  own = sum_of_neighbours(own, 32);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  float sum = 0.0f;
  const int count = blockDim.x / 32;
  for (int warp = 0; warp < count; ++warp) sum += warps[warp];
  return sum;
}

// Two of them at once.
__device__ __forceinline__ float2 sums_of_block(float first, float second) {
  __shared__ float2 warps[kMostWarps];
  first = sum_of_neighbours(first, 32);
  second = sum_of_neighbours(second, 32);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = make_float2(first, second);
  __syncthreads();
  float2 sums = make_float2(0.0f, 0.0f);
  const int count = blockDim.x / 32;
  for (int warp = 0; warp < count; ++warp) {
    sums.x += warps[warp].x;
    sums.y += warps[warp].y;
  }
  return sums;
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
  float total = 0.0f, squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) total += numbers[i];
  const float mean = sum_of_block(total) * inverse_width;
  total = 0.0f;
  if (there) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      numbers[i] -= mean;
      total += numbers[i];
      squares = fmaf(numbers[i], numbers[i], squares);
    }
  }
  const float2 sums = sums_of_block(total, squares);
  if (!there) return;
  const float rest = sums.x * inverse_width;
  const float inverse = reciprocal_root(fmaxf(sums.y * inverse_width - rest * rest, 0.0f) + epsilon);
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

// The largest number of a block.
__device__ __forceinline__ float largest_of_block(float own) {
  __shared__ float warps[kMostWarps];
  for (int distance = 16; distance > 0; distance /= 2) own = fmaxf(own, __shfl_xor_sync(kWholeWarp, own, distance));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  const int count = blockDim.x / 32;
  for (int warp = 0; warp < count; ++warp) own = fmaxf(own, warps[warp]);
  return own;
}

// y = exp(x − max)/Σ exp(x − max) of each row; a thread has up to `kVectors` of its vectors.
template <int kVectors>
__device__ __forceinline__ void softmax(const Packed* x, Packed* y, int vectors) {
  const long long row = static_cast<long long>(blockIdx.x) * vectors;
  const int first = threadIdx.x, step = blockDim.x;
  float numbers[kVectors][kWidth];
  Packed packed[kVectors];
  float largest = -3.402823466e38f;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) packed[k] = x[row + first + k * step];
  }
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
      widen(packed[k], numbers[k]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) largest = fmaxf(largest, numbers[k][i]);
    }
  }
  const float shift = 1.44269504f * largest_of_block(largest);
  float own = 0.0f;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        numbers[k][i] = power_of_two(fmaf(1.44269504f, numbers[k][i], -shift));
        own += numbers[k][i];
      }
    }
  }
  const float inverse = 1.0f / sum_of_block(own);
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
