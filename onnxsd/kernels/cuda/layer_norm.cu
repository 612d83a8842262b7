// Layer normalization of (rows, width), one warp a row: a row is read once and stays in registers, where the
// mean and then the squared distances from it are summed.

constexpr int kRowsPerBlock = 4;

// `kVectors` times 32 vectors of eight hold a row; those beyond `vectors` are not there.
template <int kVectors>
__device__ __forceinline__ void layer_norm(const Packed* x, const Packed* skip, const Packed* bias,
                                           const Packed* gamma, const Packed* beta, Packed* y, Packed* sum,
                                           int rows, int vectors, float epsilon) {
  const int lane = threadIdx.x % 32;
  const int row = blockIdx.x * kRowsPerBlock + threadIdx.x / 32;
  if (row >= rows) return;
  const long long begin = static_cast<long long>(row) * vectors;
  Packed own[kVectors], other[kVectors];
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int at = k * 32 + lane;
    if (at < vectors) {
      own[k] = x[begin + at];
      if (skip) other[k] = skip[begin + at];
    }
  }
  float numbers[kVectors][kWidth];
  float total = 0.0f, squares = 0.0f;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int at = k * 32 + lane;
    if (at < vectors) {
      widen(own[k], numbers[k]);
      if (skip) add(numbers[k], other[k]);
      if (bias) add(numbers[k], bias[at]);
      if (skip || bias) round_to_float16(numbers[k]);
      if (sum) sum[begin + at] = narrow(numbers[k]);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) total += numbers[k][i];
    }
  }
  const float width = static_cast<float>(vectors * kWidth);
  const float mean = sum_of_neighbours(total, 32) / width;
  total = 0.0f;
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    if (k * 32 + lane < vectors) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        numbers[k][i] -= mean;
        total += numbers[k][i];
        squares = fmaf(numbers[k][i], numbers[k][i], squares);
      }
    }
  }
  // What the rounded mean is off by.
  const float rest = sum_of_neighbours(total, 32) / width;
  const float variance = fmaxf(fmaf(-rest, rest, sum_of_neighbours(squares, 32) / width), 0.0f);
  const float inverse = 1.0f / sqrtf(variance + epsilon);
#pragma unroll
  for (int k = 0; k < kVectors; ++k) {
    const int at = k * 32 + lane;
    if (at < vectors) {
      float factor[kWidth], offset[kWidth];
      widen(gamma[at], factor);
      widen(beta[at], offset);
#pragma unroll
      for (int i = 0; i < kWidth; ++i)
        numbers[k][i] = fmaf((numbers[k][i] - rest) * inverse, factor[i], offset[i]);
      y[begin + at] = narrow(numbers[k]);
    }
  }
}

#define ONNXSD_LAYER_NORM(count)                                                                        \
  extern "C" __global__ void __launch_bounds__(32 * kRowsPerBlock) layer_norm_##count(                  \
      const Packed* x, const Packed* skip, const Packed* bias, const Packed* gamma, const Packed* beta, \
      Packed* y, Packed* sum, int rows, int vectors, float epsilon) {                                   \
    layer_norm<count>(x, skip, bias, gamma, beta, y, sum, rows, vectors, epsilon);                      \
  }

// The widths of Stable Diffusion's models are 320, 640, 768, 1024 and 1280; all others up to 2048 take 8.
ONNXSD_LAYER_NORM(1)
ONNXSD_LAYER_NORM(2)
ONNXSD_LAYER_NORM(3)
ONNXSD_LAYER_NORM(4)
ONNXSD_LAYER_NORM(5)
ONNXSD_LAYER_NORM(8)
