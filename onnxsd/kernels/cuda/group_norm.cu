// Group normalization of (images, pixels, channels), in two kernels.
//
// An image is cut into slabs, a few whole groups of channels wide, and each slab into parts, so many pixels
// long. `statistics` gives each part of a slab to one block, which leaves what it found of each group;
// `apply` merges the parts and normalizes. Every sum has one order, which the shape alone decides, so the
// same input gives the same bits. A sum is made of distances from a number that is among those summed, so a
// large mean costs no digits; a mean is kept as such a number and the little that is left.

constexpr int kThreads = 384;
constexpr int kWarps = kThreads / 32;

// What is added to x before it is normalized: nothing; one number a channel; a tensor of its shape too.
enum Addition { kNothing, kChannels, kSkip };

// The sizes of all this. Those that follow from others come along: a division by a number that is not known
// when a kernel is compiled takes as long as twenty additions. norms.hpp has the same structure.
struct Shape {
  int pixels, vectors, groups;      // of an image; vectors of eight channels
  int parts, pixels_per_part;       // the last parts may be shorter, or empty
  int slab_vectors, slab_groups;    // of a slab
  int group_channels;               // of a group
  int rows;                         // pixels that a block takes at once

  __device__ int slab_channels() const { return slab_vectors * kWidth; }
  __device__ int first_of(int part) const { return min(part * pixels_per_part, pixels); }
  __device__ int pixels_of(int part) const { return first_of(part + 1) - first_of(part); }
};

struct Summands {
  const Packed* x;
  const Packed* skip;  // like x
  const Packed* row;   // (images, channels)
  const Packed* bias;  // (channels)
};

// What was found of some numbers: mean = pivot + rest, and the sum of squared distances from it.
struct Moments {
  float pivot, rest, squares, unused;
};

// A block's share (part, slab, image), and a thread's place in it: one row of pixels, eight channels.
struct Place {
  int part, slab, image;
  int row;
  int own;     // which of its slab's vectors
  int vector;  // which of all

  __device__ explicit Place(const Shape& shape) : part(blockIdx.x), slab(blockIdx.y), image(blockIdx.z) {
    row = threadIdx.x / shape.slab_vectors;
    own = threadIdx.x - row * shape.slab_vectors;
    vector = slab * shape.slab_vectors + own;
  }

  // Where this thread's vector of an image's first pixel lies.
  __device__ long long base(const Shape& shape) const {
    return static_cast<long long>(image) * shape.pixels * shape.vectors + vector;
  }
  // The place of a group of the slab in (images, groups).
  __device__ long long group(const Shape& shape, int group) const {
    return static_cast<long long>(image) * shape.groups + slab * shape.slab_groups + group;
  }
};

// The eight numbers that each pixel of this image gets in these channels.
__device__ __forceinline__ void load_channels(const Summands& in, const Shape& shape, const Place& place,
                                              float (&added)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) added[i] = 0.0f;
  if (in.bias) add(added, in.bias[place.vector]);
  if (in.row) add(added, in.row[static_cast<long long>(place.image) * shape.vectors + place.vector]);
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

// In each of a thread's channels the sums of the numbers' distances from the first of them, and of their
// squares.
struct Sums {
  float pivot[kWidth], total[kWidth], squares[kWidth];

  __device__ __forceinline__ void begin(const float (&numbers)[kWidth]) {
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
};

// What a block shares: the sums of each row of its pixels in each channel of its slab.
struct Shared {
  alignas(16) float pivot[kThreads * kWidth];
  alignas(16) float total[kThreads * kWidth];
  alignas(16) float squares[kThreads * kWidth];
};

// Sixteen bytes at a time: single numbers of threads beside each other would wait for the same banks.
__device__ __forceinline__ void store(float* to, const float (&numbers)[kWidth]) {
  float4* both = reinterpret_cast<float4*>(to);
  both[0] = make_float4(numbers[0], numbers[1], numbers[2], numbers[3]);
  both[1] = make_float4(numbers[4], numbers[5], numbers[6], numbers[7]);
}

__device__ __forceinline__ void load(const float* from, float (&numbers)[kWidth]) {
  const float4* both = reinterpret_cast<const float4*>(from);
  const float4 low = both[0], high = both[1];
  numbers[0] = low.x, numbers[1] = low.y, numbers[2] = low.z, numbers[3] = low.w;
  numbers[4] = high.x, numbers[5] = high.y, numbers[6] = high.z, numbers[7] = high.w;
}

// One warp's sums over all cells of a group, about a pivot that is one of theirs.
__device__ __forceinline__ Moments merge_cells(const Shared& shared, const Shape& shape, int group, int count) {
  const int lane = threadIdx.x % 32, channels = shape.group_channels, width = shape.slab_channels();
  const int rows = min(shape.rows, count), first = group * channels, last = first + channels - 1;
  const float pivot = median(shared.pivot[first], shared.pivot[rows / 2 * width + first + channels / 2],
                             shared.pivot[(rows - 1) * width + last]);
  // Of `count` pixels each row has as many as every other, or one more.
  const int least = count / shape.rows, longer = count - least * shape.rows;
  int across = 32;  // lanes beside each other in the channels; the others stand in other rows
  while (across > channels) across /= 2;
  float total = 0.0f, squares = 0.0f;
  for (int row = lane / across; row < rows; row += 32 / across) {
    const float pixels = row < longer ? least + 1 : least;
    for (int channel = first + lane % across; channel <= last; channel += across) {
      const int cell = row * width + channel;
      const float own = shared.total[cell], apart = shared.pivot[cell] - pivot;
      total += fmaf(pixels, apart, own);
      squares += fmaf(fmaf(pixels, apart, 2.0f * own), apart, shared.squares[cell]);
    }
  }
  total = sum_of_neighbours(total, 32);
  squares = sum_of_neighbours(squares, 32);
  const float rest = total / (static_cast<float>(count) * channels);
  return {pivot, rest, fmaxf(squares - total * rest, 0.0f), 0.0f};
}

// Vectors that a thread has in flight, `step` apart.
template <Addition kAddition, int kAtOnce>
struct Batch {
  Packed x[kAtOnce], skip[kAtOnce];

  __device__ __forceinline__ void load(const Summands& in, int i, long long at) {
    x[i] = in.x[at];
    if (kAddition == kSkip) skip[i] = in.skip[at];
  }
};

// What one thread finds in its channels, in the part's pixels that fall to its row; `sum` may be null.
template <Addition kAddition>
__device__ __forceinline__ Sums sum_row(const Summands& in, Packed* sum, const Shape& shape, const Place& place) {
  const long long base = place.base(shape);
  constexpr int kAtOnce = kAddition == kNothing ? 4 : kAddition == kChannels ? 3 : 2;
  const int vectors = shape.vectors, step = shape.rows * vectors;
  const int begin = (shape.first_of(place.part) + place.row) * vectors;
  const int end = shape.first_of(place.part + 1) * vectors;
  float added[kWidth];
  if (kAddition != kNothing) load_channels(in, shape, place, added);
  Sums sums = {};
  for (int at = begin; at < end; at += kAtOnce * step) {
    Batch<kAddition, kAtOnce> batch;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (at + i * step < end) batch.load(in, i, base + (at + i * step));
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (at + i * step < end) {
        float numbers[kWidth];
        sum_up<kAddition>(batch.x[i], batch.skip[i], added, numbers);
        if (kAddition != kNothing && sum) sum[base + (at + i * step)] = narrow(numbers);
        if (i == 0 && at == begin) sums.begin(numbers);
        sums.see(numbers);
      }
    }
  }
  return sums;
}

template <Addition kAddition>
__device__ __forceinline__ void statistics(Summands in, Packed* sum, Moments* partials, const Shape& shape) {
  __shared__ Shared shared;
  const Place place(shape);
  const int count = shape.pixels_of(place.part);
  if (place.row < shape.rows) {
    const Sums sums = sum_row<kAddition>(in, sum, shape, place);
    const int cell = (place.row * shape.slab_vectors + place.own) * kWidth;
    store(shared.pivot + cell, sums.pivot);
    store(shared.total + cell, sums.total);
    store(shared.squares + cell, sums.squares);
  }
  __syncthreads();
  for (int group = threadIdx.x / 32; group < shape.slab_groups; group += kWarps) {
    Moments found = {0.0f, 0.0f, 0.0f, 0.0f};
    if (count > 0) found = merge_cells(shared, shape, group, count);
    if (threadIdx.x % 32 == 0) partials[place.group(shape, group) * shape.parts + place.part] = found;
  }
}

// One warp's merger of a group's parts; `own` is that group's row of partials. Parts beyond the last pixel are
// empty, and the first, the middle and the last of the others give the pivot.
__device__ __forceinline__ Moments merge_parts(const Moments* own, const Shape& shape) {
  const int lane = threadIdx.x % 32, channels = shape.group_channels;
  const int last = (shape.pixels - 1) / shape.pixels_per_part;
  const float pivot = median(own[0].pivot, own[last / 2].pivot, own[last].pivot);
  float total = 0.0f, squares = 0.0f;
#pragma unroll 4
  for (int part = lane; part < shape.parts; part += 32) {
    const Moments found = own[part];
    const float count = static_cast<float>(shape.pixels_of(part)) * channels;
    const float apart = (found.pivot - pivot) + found.rest;
    total = fmaf(count, apart, total);
    squares += fmaf(count * apart, apart, found.squares);
  }
  total = sum_of_neighbours(total, 32);
  squares = sum_of_neighbours(squares, 32);
  const float rest = total / (static_cast<float>(shape.pixels) * channels);
  return {pivot, rest, fmaxf(squares - total * rest, 0.0f), 0.0f};
}

// What is asked of the result besides the norm itself.
struct Affine {
  const float *gamma, *beta;  // (channels)
  float epsilon;
  bool activate;
};

template <Addition kAddition>
__device__ __forceinline__ void apply(Summands in, const Affine& affine, const Moments* partials, Packed* y,
                                      const Shape& shape) {
  constexpr int kAtOnce = kAddition == kNothing ? 4 : kAddition == kChannels ? 3 : 2;
  __shared__ Moments merged[kThreads];  // with 1/√(variance + epsilon) in place of the squares
  const Place place(shape);
  // From the end backwards: what `statistics` read last is still in the cache. All that can be is under way
  // before the parts are merged.
  const long long base = place.base(shape);
  const int step = shape.rows * shape.vectors, begin = shape.first_of(place.part) * shape.vectors;
  const bool working = place.row < shape.rows;
  int at = working ? (shape.first_of(place.part + 1) - 1 - place.row) * shape.vectors : begin - 1;
  Batch<kAddition, kAtOnce> batch;
  float factor[kWidth], offset[kWidth];
#pragma unroll
  for (int i = 0; i < kAtOnce; ++i)
    if (at - i * step >= begin) batch.load(in, i, base + (at - i * step));
  if (at >= begin) {
    load(affine.gamma + place.vector * kWidth, factor);
    load(affine.beta + place.vector * kWidth, offset);
  }
  for (int group = threadIdx.x / 32; group < shape.slab_groups; group += kWarps) {
    Moments found = merge_parts(partials + place.group(shape, group) * shape.parts, shape);
    const float variance = found.squares / (static_cast<float>(shape.pixels) * shape.group_channels);
    found.squares = 1.0f / sqrtf(variance + affine.epsilon);
    if (threadIdx.x % 32 == 0) merged[group] = found;
  }
  __syncthreads();
  if (at < begin) return;
  float added[kWidth];
  if (kAddition != kNothing) load_channels(in, shape, place, added);
  int group = place.own * kWidth / shape.group_channels;
  int left = (group + 1) * shape.group_channels - place.own * kWidth;  // channels of this group
  Moments own = merged[group];
  const float pivot = own.pivot;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (left == 0) {
      own = merged[++group];
      left = shape.group_channels;
    }
    --left;
    factor[i] *= own.squares;
    offset[i] = fmaf(-((own.pivot - pivot) + own.rest), factor[i], offset[i]);
  }
  for (;;) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (at - i * step >= begin) {
        float numbers[kWidth];
        sum_up<kAddition>(batch.x[i], batch.skip[i], added, numbers);
#pragma unroll
        for (int k = 0; k < kWidth; ++k) numbers[k] = fmaf(numbers[k] - pivot, factor[k], offset[k]);
        if (affine.activate) {
#pragma unroll
          for (int k = 0; k < kWidth; ++k) numbers[k] = silu(numbers[k]);
        }
        y[base + (at - i * step)] = narrow(numbers);
      }
    }
    at -= kAtOnce * step;
    if (at < begin) return;
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (at - i * step >= begin) batch.load(in, i, base + (at - i * step));
  }
}

#define ONNXSD_GROUP_NORM(name, addition)                                                                    \
  extern "C" __global__ void __launch_bounds__(kThreads, 2) group_norm_statistics_##name(                    \
      const Packed* x, const Packed* skip, const Packed* row, const Packed* bias, Packed* sum,               \
      Moments* partials, Shape shape) {                                                                      \
    statistics<addition>({x, skip, row, bias}, sum, partials, shape);                                        \
  }                                                                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads, 2) group_norm_apply_##name(                         \
      const Packed* x, const Packed* skip, const Packed* row, const Packed* bias, const float* gamma,        \
      const float* beta, const Moments* partials, Packed* y, Shape shape, float epsilon, int activate) {     \
    apply<addition>({x, skip, row, bias}, {gamma, beta, epsilon, activate != 0}, partials, y, shape);        \
  }

ONNXSD_GROUP_NORM(plain, kNothing)
ONNXSD_GROUP_NORM(channels, kChannels)
ONNXSD_GROUP_NORM(skip, kSkip)
