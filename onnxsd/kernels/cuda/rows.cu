// Layer normalization and softmax of (rows, width): one block a row, which is read once and stays in registers.

constexpr int kMostWarps = 32;

// Two sums over a block, in a fixed order: of each warp, then of the warps' results. Every thread gets both.
__device__ __forceinline__ float2 sum_of_block(float2 own) {
  __shared__ float2 warps[kMostWarps];
  own.x = sum_of_neighbours(own.x, 32);
  own.y = sum_of_neighbours(own.y, 32);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = own;
  __syncthreads();
  float2 sum = make_float2(0.0f, 0.0f);
  const int count = blockDim.x / 32;
  for (int warp = 0; warp < count; ++warp) {
    sum.x += warps[warp].x;
    sum.y += warps[warp].y;
  }
  return sum;
}

// y = (s − mean)/√(variance + epsilon)·gamma + beta of s = x + skip + bias, a vector of eight for each thread;
// skip, bias and sum may be null. Sums are made of distances from a number of the row.
extern "C" __global__ void __launch_bounds__(256) layer_norm(const Packed* x, const Packed* skip, const Packed* bias,
                                                             const Packed* gamma, const Packed* beta, Packed* y,
                                                             Packed* sum, int vectors, float epsilon) {
  const long long row = static_cast<long long>(blockIdx.x) * vectors;
  const int at = threadIdx.x;
  const bool there = at < vectors;
  float numbers[kWidth], first[kWidth];
  Packed factor = {}, offset = {};
  float2 own = make_float2(0.0f, 0.0f);
  if (there) {
    widen(x[row + at], numbers);
    widen(x[row], first);
    factor = gamma[at];
    offset = beta[at];
    if (skip) {
      add(numbers, skip[row + at]);
      add(first, skip[row]);
    }
    if (bias) {
      add(numbers, bias[at]);
      add(first, bias[0]);
    }
    if (skip || bias) {
      round_to_float16(numbers);
      round_to_float16(first);
    }
    if (sum) sum[row + at] = narrow(numbers);
    const float pivot = median(first[0], first[3], first[6]);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      numbers[i] -= pivot;
      own.x += numbers[i];
      own.y = fmaf(numbers[i], numbers[i], own.y);
    }
  }
  const float2 all = sum_of_block(own);
  if (!there) return;
  const float width = static_cast<float>(vectors * kWidth);
  const float mean = all.x / width;  // from the pivot
  const float inverse = 1.0f / sqrtf(fmaxf(all.y / width - mean * mean, 0.0f) + epsilon);
  float gain[kWidth], shift[kWidth];
  widen(factor, gain);
  widen(offset, shift);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) numbers[i] = fmaf((numbers[i] - mean) * inverse, gain[i], shift[i]);
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
  float2 own = make_float2(0.0f, 0.0f);
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (first + k * step < vectors) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        numbers[k][i] = power_of_two(fmaf(1.44269504f, numbers[k][i], -shift));
        own.x += numbers[k][i];
      }
    }
  }
  const float inverse = 1.0f / sum_of_block(own).x;
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
