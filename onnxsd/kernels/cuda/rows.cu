// Layer normalization and softmax of (rows, width): one block a row, which is read once and stays in registers.

constexpr int kMostWarps = 32;

// What one warp found of its numbers: the sums of their distances from one of them, and of the squares.
struct WarpSums {
  float pivot, total, squares;
};

// Mean, as distance from the first warp's pivot, and sum of squared distances from it, over a row of vectors.
struct RowMoments {
  float pivot, rest, squares;
};

__device__ __forceinline__ RowMoments merge_warps(const WarpSums* warps, int vectors) {
  const float pivot = warps[0].pivot;
  float total = 0.0f, squares = 0.0f;
  for (int warp = 0; warp * 32 < vectors; ++warp) {
    const WarpSums own = warps[warp];
    const float count = min(vectors - warp * 32, 32) * kWidth, apart = own.pivot - pivot;
    total += fmaf(count, apart, own.total);
    squares += fmaf(fmaf(count, apart, 2.0f * own.total), apart, own.squares);
  }
  const float rest = total / static_cast<float>(vectors * kWidth);
  return {pivot, rest, fmaxf(squares - total * rest, 0.0f)};
}

// y = (s − mean)/√(variance + epsilon)·gamma + beta of s = x + skip + bias, a vector of eight for each thread;
// skip, bias and sum may be null.
extern "C" __global__ void __launch_bounds__(256) layer_norm(const Packed* x, const Packed* skip, const Packed* bias,
                                                             const Packed* gamma, const Packed* beta, Packed* y,
                                                             Packed* sum, int vectors, float epsilon) {
  __shared__ WarpSums warps[kMostWarps];
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
  const float pivot = __shfl_sync(kWholeWarp, median(numbers[0], numbers[3], numbers[6]), 0);
  float total = 0.0f, squares = 0.0f;
  if (there) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float distance = numbers[i] - pivot;
      total += distance;
      squares = fmaf(distance, distance, squares);
    }
  }
  total = sum_of_neighbours(total, 32);
  squares = sum_of_neighbours(squares, 32);
  if (at % 32 == 0) warps[at / 32] = {pivot, total, squares};
  __syncthreads();
  if (!there) return;
  const RowMoments found = merge_warps(warps, vectors);
  const float inverse = 1.0f / sqrtf(found.squares / static_cast<float>(vectors * kWidth) + epsilon);
  float gain[kWidth], shift[kWidth];
  widen(factor, gain);
  widen(offset, shift);
#pragma unroll
  for (int i = 0; i < kWidth; ++i)
    numbers[i] = fmaf((numbers[i] - found.pivot - found.rest) * inverse, gain[i], shift[i]);
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
