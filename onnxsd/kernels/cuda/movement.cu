// Sums that are written once, to where they are needed: in place, beside another tensor, or four times.

constexpr int kPerThread = 4;

// x + skip + row + bias at one vector of eight; what is not given is null. row has a line for each image.
__device__ __forceinline__ Packed sum_at(const Packed* x, const Packed* skip, const Packed* row,
                                         const Packed* bias, long long at, long long row_at, int vector) {
  const Packed own = x[at];
  if (!skip && !row && !bias) return own;
  float numbers[kWidth];
  widen(own, numbers);
  if (skip) add(numbers, skip[at]);
  if (row) add(numbers, row[row_at + vector]);
  if (bias) add(numbers, bias[vector]);
  return narrow(numbers);
}

// y (lines, vectors) = x + skip + row + bias; row (images, vectors), `lines_per_row` lines to an image.
extern "C" __global__ void __launch_bounds__(256) addition(const Packed* x, const Packed* skip,
                                                           const Packed* row, const Packed* bias, Packed* y,
                                                           int lines, int vectors, int lines_per_row) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int vector = static_cast<int>(thread % vectors);
  const int first = static_cast<int>(thread / vectors) * kPerThread;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int line = first + i;
    const long long at = static_cast<long long>(line) * vectors + vector;
    if (line < lines)
      y[at] = sum_at(x, skip, row, bias, at, static_cast<long long>(line / lines_per_row) * vectors, vector);
  }
}

// y (lines, vectors + others): x + skip + bias (lines, vectors), and beside it other (lines, others).
extern "C" __global__ void __launch_bounds__(256) concatenation(const Packed* x, const Packed* skip,
                                                                const Packed* bias, const Packed* other,
                                                                Packed* y, int lines, int vectors, int others) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int both = vectors + others;
  const int vector = static_cast<int>(thread % both);
  const int first = static_cast<int>(thread / both) * kPerThread;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const long long line = first + i;
    if (line < lines)
      y[line * both + vector] =
          vector < vectors ? sum_at(x, skip, nullptr, bias, line * vectors + vector, 0, vector)
                           : other[line * others + (vector - vectors)];
  }
}

// y (images, height, width, vectors), each pixel of x + skip + bias (images, ⌈height/2⌉, ⌈width/2⌉, vectors) at
// two rows and two columns; where a size is odd the last ones have no second.
extern "C" __global__ void __launch_bounds__(256) upsampling(const Packed* x, const Packed* skip,
                                                             const Packed* bias, Packed* y, int images,
                                                             int height, int width, int vectors) {
  const int rows = (height + 1) / 2, columns = (width + 1) / 2;
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  const long long pixel = thread / vectors;
  const int vector = static_cast<int>(thread - pixel * vectors);
  if (pixel >= static_cast<long long>(images) * rows * columns) return;
  const int column = static_cast<int>(pixel % columns);
  const long long above = pixel / columns;
  const int row = static_cast<int>(above % rows);
  const Packed value = sum_at(x, skip, nullptr, bias, thread, 0, vector);
  const long long corner = ((above / rows * height + 2 * row) * width + 2 * column) * vectors + vector;
  const long long below = static_cast<long long>(width) * vectors;
  const bool right = 2 * column + 1 < width, down = 2 * row + 1 < height;
  y[corner] = value;
  if (right) y[corner + vectors] = value;
  if (down) y[corner + below] = value;
  if (right && down) y[corner + below + vectors] = value;
}

// y (images, 2·rows, 2·columns, vectors) + bias of z (images, rows + 1, columns + 1, 4·vectors), in whose pixels
// four phases lie beside each other: y's pixel (2i + p, 2j + q) is phase 2p + q of z's pixel (i + p, j + q). A
// thread moves one vector of all four; blocks lie along a row, rows and images are the grid's other axes.
extern "C" __global__ void __launch_bounds__(256) interleaving(const Packed* z, const Packed* bias, Packed* y,
                                                               int columns, int vectors) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int column = static_cast<int>(thread / vectors);
  const int vector = static_cast<int>(thread % vectors);
  if (column >= columns) return;
  const long long row = blockIdx.y, rows = gridDim.y, image = blockIdx.z;
  const Packed* corner = z + ((image * (rows + 1) + row) * (columns + 1) + column) * 4 * vectors + vector;
  Packed phases[4];
#pragma unroll
  for (int phase = 0; phase < 4; ++phase) {
    const int down = phase / 2, right = phase % 2;
    phases[phase] = corner[(down * (columns + 1LL) + right) * 4 * vectors + phase * vectors];
  }
  if (bias) {
    float addend[kWidth];
    widen(bias[vector], addend);
#pragma unroll
    for (int phase = 0; phase < 4; ++phase) {
      float numbers[kWidth];
      widen(phases[phase], numbers);
      add(numbers, addend);
      phases[phase] = narrow(numbers);
    }
  }
  Packed* pixel = y + ((image * rows + row) * 2 * 2 * columns + 2 * column) * vectors + vector;
#pragma unroll
  for (int phase = 0; phase < 4; ++phase) {
    const int down = phase / 2, right = phase % 2;
    pixel[(down * 2LL * columns + right) * vectors] = phases[phase];
  }
}
