// Group normalization of (batch, pixels, channels), in two kernels.
//
// `statistics` gives each part of an image's pixels to one block, which leaves mean and sum of squared
// distances from it of each group; `apply` merges the parts (Chan, Golub and LeVeque 1983) and normalizes.
// Every sum has one order, given by the shape alone, so that the same input gives the same bits. Distances
// are taken from a number near the mean, so that a large mean costs no digits.

constexpr int kThreads = 512;

// What is added to x before it is normalized: nothing; one number a channel; a tensor of its shape too.
enum Addition { kNothing, kChannels, kSkip };

struct Shape {
  int pixels, channels, groups;
  int parts;  // of an image's pixels
  int rows;   // pixels that a block takes at once

  __device__ int vectors() const { return channels / kWidth; }
  __device__ int pixels_per_part() const { return (pixels + parts - 1) / parts; }
  __device__ int first_of(int part) const { return min(part * pixels_per_part(), pixels); }
  __device__ int pixels_of(int part) const { return first_of(part + 1) - first_of(part); }
};

struct Summands {
  const Packed* x;
  const Packed* skip;    // like x
  const Packed* row;     // (batch, channels)
  const Packed* bias;    // (channels)
};

// One thread's place: which eight channels, and which of the rows that its block takes at once.
struct Place {
  int vector, row;

  __device__ explicit Place(const Shape& shape)
      : vector(threadIdx.x % shape.vectors()), row(threadIdx.x / shape.vectors()) {}
};

// The eight numbers that each pixel of this image gets in these channels.
__device__ __forceinline__ void load_channels(const Summands& in, const Shape& shape, int vector,
                                              float (&added)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) added[i] = 0.0f;
  if (in.bias) add(added, in.bias[vector]);
  if (in.row) add(added, in.row[static_cast<long long>(blockIdx.y) * shape.vectors() + vector]);
}

template <Addition kAddition>
__device__ __forceinline__ void sum_up(const Packed& x, const Packed& skip, const float (&added)[kWidth],
                                       float (&sum)[kWidth]) {
  widen(x, sum);
  if (kAddition == kNothing) return;
  add(sum, added);
  if (kAddition == kSkip) add(sum, skip);
  round_to_float16(sum);
}

// Mean and sum of squared distances of the numbers that a thread has seen in each of its channels.
struct Running {
  float pivot[kWidth], total[kWidth], squares[kWidth];

  __device__ void begin() {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pivot[i] = total[i] = squares[i] = 0.0f;
  }
  __device__ __forceinline__ void start_at(const float (&numbers)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pivot[i] = numbers[i];
  }
  __device__ __forceinline__ void see(const float (&numbers)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float distance = numbers[i] - pivot[i];
      total[i] += distance;
      squares[i] = fmaf(distance, distance, squares[i]);
    }
  }
  __device__ __forceinline__ float2 moments(int i, int count) const {
    if (count == 0) return make_float2(0.0f, 0.0f);
    const float mean = total[i] / count;
    return make_float2(pivot[i] + mean, fmaxf(squares[i] - total[i] * mean, 0.0f));
  }
};

// Of `count` rows, as many as fall to one of `rows` threads that take turns.
__device__ __forceinline__ int turns(int count, int rows, int row) {
  return row < count && row < rows ? (count - row + rows - 1) / rows : 0;
}

// Threads that share a group: a power of two, so that a warp holds whole groups.
__device__ __forceinline__ int threads_per_group(int groups) {
  int size = 32;
  while (size > 1 && size * groups > static_cast<int>(blockDim.x)) size /= 2;
  return size;
}

// Merges what the rows of a block found in each channel; the result replaces the first row's.
__device__ __forceinline__ void merge_rows(float2* cells, const Shape& shape, int count) {
  for (int channel = threadIdx.x; channel < shape.channels; channel += blockDim.x) {
    float mean = 0.0f, squares = 0.0f;
    for (int row = 0; row < shape.rows; ++row)
      mean = fmaf(turns(count, shape.rows, row), cells[row * shape.channels + channel].x, mean);
    mean /= max(count, 1);
    for (int row = 0; row < shape.rows; ++row) {
      const float2 cell = cells[row * shape.channels + channel];
      const float distance = cell.x - mean;
      squares += fmaf(turns(count, shape.rows, row) * distance, distance, cell.y);
    }
    cells[channel] = make_float2(mean, squares);
  }
}

// Merges the channels of each group into the block's part of `partials` (batch, groups, parts).
__device__ __forceinline__ void merge_channels(const float2* cells, const Shape& shape, int count,
                                               float2* partials) {
  const int size = threads_per_group(shape.groups), together = blockDim.x / size;
  const int lane = threadIdx.x % size, channels = shape.channels / shape.groups;
  for (int begin = 0; begin < shape.groups; begin += together) {
    const int group = begin + threadIdx.x / size;
    const float2* own = cells + group * channels;
    const int last = group < shape.groups ? channels : 0;
    float mean = 0.0f, squares = 0.0f;
    for (int channel = lane; channel < last; channel += size) mean += own[channel].x;
    mean = sum_of_neighbours(mean, size) / channels;
    for (int channel = lane; channel < last; channel += size) {
      const float distance = own[channel].x - mean;
      squares += fmaf(count * distance, distance, own[channel].y);
    }
    squares = sum_of_neighbours(squares, size);
    if (lane == 0 && last > 0)
      partials[(static_cast<long long>(blockIdx.y) * shape.groups + group) * shape.parts + blockIdx.x] =
          make_float2(mean, squares);
  }
}

template <Addition kAddition>
__device__ __forceinline__ void statistics(Summands in, Packed* sum, float2* partials, const Shape& shape) {
  constexpr int kAtOnce = kAddition == kSkip ? 2 : 4;  // loads in flight for each thread and operand
  __shared__ float2 cells[kThreads * kWidth];
  wait_for_earlier_kernels();
  let_the_next_kernel_start();
  const Place place(shape);
  const int vectors = shape.vectors(), part = blockIdx.x;
  const int last = place.row < shape.rows ? shape.first_of(part + 1) : 0;
  const int first = shape.first_of(part) + place.row;
  const long long image = static_cast<long long>(blockIdx.y) * shape.pixels * vectors + place.vector;
  float added[kWidth];
  if (kAddition != kNothing) load_channels(in, shape, place.vector, added);
  Running running;
  running.begin();
  for (int pixel = first; pixel < last; pixel += kAtOnce * shape.rows) {
    Packed x[kAtOnce], skip[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const long long at = image + static_cast<long long>(pixel + i * shape.rows) * vectors;
      if (pixel + i * shape.rows < last) {
        x[i] = in.x[at];
        if (kAddition == kSkip) skip[i] = in.skip[at];
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (pixel + i * shape.rows < last) {
        float numbers[kWidth];
        sum_up<kAddition>(x[i], skip[i], added, numbers);
        if (kAddition != kNothing && sum)
          sum[image + static_cast<long long>(pixel + i * shape.rows) * vectors] = narrow(numbers);
        if (i == 0 && pixel == first) running.start_at(numbers);
        running.see(numbers);
      }
    }
  }
  const int count = shape.pixels_of(part);
  if (place.row < shape.rows) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      cells[place.row * shape.channels + place.vector * kWidth + i] =
          running.moments(i, turns(count, shape.rows, place.row));
  }
  __syncthreads();
  merge_rows(cells, shape, count);
  __syncthreads();
  merge_channels(cells, shape, count, partials);
}

// Mean and 1/√(variance + epsilon) of each group of this block's image, merged from its parts.
__device__ __forceinline__ void merge_parts(const float2* partials, const Shape& shape, float epsilon,
                                            float2* merged) {
  const int size = threads_per_group(shape.groups), together = blockDim.x / size;
  const int lane = threadIdx.x % size, channels = shape.channels / shape.groups;
  for (int begin = 0; begin < shape.groups; begin += together) {
    const int group = begin + threadIdx.x / size;
    const int last = group < shape.groups ? shape.parts : 0;
    const float2* own =
        partials + (static_cast<long long>(blockIdx.y) * shape.groups + group) * shape.parts;
    float mean = 0.0f, squares = 0.0f;
    for (int part = lane; part < last; part += size) mean = fmaf(shape.pixels_of(part), own[part].x, mean);
    mean = sum_of_neighbours(mean, size) / shape.pixels;
    for (int part = lane; part < last; part += size) {
      const float distance = own[part].x - mean;
      squares += fmaf(static_cast<float>(shape.pixels_of(part)) * channels * distance, distance, own[part].y);
    }
    squares = sum_of_neighbours(squares, size);
    const float variance = squares / (static_cast<float>(shape.pixels) * channels);
    if (lane == 0 && last > 0) merged[group] = make_float2(mean, reciprocal_root(variance + epsilon));
  }
}

template <Addition kAddition>
__device__ __forceinline__ void apply(Summands in, const float* gamma, const float* beta,
                                      const float2* partials, Packed* y, const Shape& shape, float epsilon,
                                      bool activate) {
  constexpr int kAtOnce = kAddition == kSkip ? 2 : 4;
  __shared__ float2 merged[kThreads];
  wait_for_earlier_kernels();
  let_the_next_kernel_start();
  merge_parts(partials, shape, epsilon, merged);
  __syncthreads();
  const Place place(shape);
  if (place.row >= shape.rows) return;
  const int vectors = shape.vectors(), part = blockIdx.x;
  const int first = shape.first_of(part);
  const long long image = static_cast<long long>(blockIdx.y) * shape.pixels * vectors + place.vector;
  float added[kWidth], factor[kWidth], offset[kWidth];
  if (kAddition != kNothing) load_channels(in, shape, place.vector, added);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const int channel = place.vector * kWidth + i;
    const float2 own = merged[channel / (shape.channels / shape.groups)];
    factor[i] = gamma[channel] * own.y;
    offset[i] = beta[channel] - own.x * factor[i];
  }
  // From the end backwards: what `statistics` read last is still in the cache.
  for (int pixel = shape.first_of(part + 1) - 1 - place.row; pixel >= first; pixel -= kAtOnce * shape.rows) {
    Packed x[kAtOnce], skip[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const long long at = image + static_cast<long long>(pixel - i * shape.rows) * vectors;
      if (pixel - i * shape.rows >= first) {
        x[i] = in.x[at];
        if (kAddition == kSkip) skip[i] = in.skip[at];
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (pixel - i * shape.rows >= first) {
        float numbers[kWidth];
        sum_up<kAddition>(x[i], skip[i], added, numbers);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) numbers[k] = fmaf(numbers[k], factor[k], offset[k]);
        if (activate) {
#pragma unroll
          for (int k = 0; k < kWidth; ++k) numbers[k] = silu(numbers[k]);
        }
        y[image + static_cast<long long>(pixel - i * shape.rows) * vectors] = narrow(numbers);
      }
    }
  }
}

#define ONNXSD_GROUP_NORM(name, addition)                                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads, 2) group_norm_statistics_##name(                    \
      const Packed* x, const Packed* skip, const Packed* row, const Packed* bias, Packed* sum,               \
      float2* partials, int pixels, int channels, int groups, int parts, int rows) {                         \
    statistics<addition>({x, skip, row, bias}, sum, partials, {pixels, channels, groups, parts, rows});      \
  }                                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads, 2) group_norm_apply_##name(                         \
      const Packed* x, const Packed* skip, const Packed* row, const Packed* bias, const float* gamma,        \
      const float* beta, const float2* partials, Packed* y, int pixels, int channels, int groups, int parts, \
      int rows, float epsilon, int activate) {                                                               \
    apply<addition>({x, skip, row, bias}, gamma, beta, partials, y,                                          \
                    {pixels, channels, groups, parts, rows}, epsilon, activate != 0);                        \
  }

ONNXSD_GROUP_NORM(plain, kNothing)
ONNXSD_GROUP_NORM(channels, kChannels)
ONNXSD_GROUP_NORM(skip, kSkip)
