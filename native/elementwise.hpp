// GEGLU, and sums that are written to where they are needed.
#pragma once

#include "operator.hpp"

constexpr int kThreads = 128;
constexpr int kLinesPerThread = 4;        // as in movement.cu
constexpr int kRowsOfGegluPerThread = 2;  // as in geglu.cu

// Blocks for one thread to each vector of so many lines.
inline Grid grid_of(int64_t lines, int64_t vectors, int64_t lines_per_thread) {
  const int64_t threads = (lines + lines_per_thread - 1) / lines_per_thread * vectors;
  return {(threads + kThreads - 1) / kThreads, 1, 1};
}

struct Geglu {
  static constexpr const char* kName = "GEGLU";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},  // x (…, 2·width)
      {ElementType::kFloat16},  // bias (2·width)
  };
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16}};  // (…, width)

  explicit Geglu(const Attributes&) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), bias = call.input(1);
    call.require_that(bias.sizes == Sizes{{x.sizes.last()}, 1}, "bias is as long as x is wide");
    call.require_that(x.sizes.last() % 16 == 0, "each half must be a multiple of 8 wide");
    Sizes half = x.sizes;
    half.values[half.rank - 1] /= 2;
    const int rows = call.count(x.sizes.lines()), vectors = call.vectors(half);
    void* y = call.output(0, half);
    const Grid grid = grid_of(rows, vectors, kRowsOfGegluPerThread);
    call.launch(Function::kGeglu, grid, kThreads, x.data, bias.data, y, rows, vectors);
  }
};

struct FusedAdd {
  static constexpr const char* kName = "FusedAdd";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // x (…, width)
      {ElementType::kFloat16, true},  // skip like x, or (batch, width) for four axes
      {ElementType::kFloat16, true},  // bias (width)
  };
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16, false, input(0) | input(1)}};

  explicit FusedAdd(const Attributes&) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), skip = call.input(1), bias = call.input(2);
    const int vectors = call.vectors(x.sizes), lines = call.count(x.sizes.lines());
    const int64_t batch = x.sizes.values[0];
    const bool rows_only = skip && x.sizes.rank == 4 && skip.sizes == Sizes{{batch, x.sizes.last()}, 2};
    call.require_that(skip || bias, "there is nothing to add");
    call.require_that(!skip || rows_only || skip.sizes == x.sizes, "skip is like x, or (batch, channels)");
    call.require_that(!bias || bias.sizes == Sizes{{x.sizes.last()}, 1}, "bias is as long as x is wide");
    const void* full = rows_only ? nullptr : skip.data;
    const void* row = rows_only ? skip.data : nullptr;
    void* y = call.output(0, x.sizes);
    const int lines_per_row = rows_only ? call.count(lines / batch) : lines;
    const Grid grid = grid_of(lines, vectors, kLinesPerThread);
    call.launch(Function::kAddition, grid, kThreads, x.data, full, row, bias.data, y, lines, vectors, lines_per_row);
  }
};

struct FusedConcat {
  static constexpr const char* kName = "FusedConcat";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // x (batch, height, width, channels)
      {ElementType::kFloat16},        // other (batch, height, width, others)
      {ElementType::kFloat16, true},  // skip like x
      {ElementType::kFloat16, true},  // bias (channels)
  };
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16}};

  explicit FusedConcat(const Attributes&) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), other = call.input(1), skip = call.input(2), bias = call.input(3);
    call.require_that(x.sizes.rank == 4 && other.sizes.rank == 4, "both must have four axes");
    Sizes both = x.sizes;
    both.values[3] = other.sizes.last();
    call.require_that(other.sizes == both, "both must have the same batch, height and width");
    both.values[3] += x.sizes.last();
    call.require_that(!skip || skip.sizes == x.sizes, "skip is like x");
    call.require_that(!bias || bias.sizes == Sizes{{x.sizes.last()}, 1}, "bias is (channels)");
    const int vectors = call.vectors(x.sizes), others = call.vectors(other.sizes);
    const int lines = call.count(x.sizes.lines());
    void* y = call.output(0, both);
    const Grid grid = grid_of(lines, vectors + others, kLinesPerThread);
    call.launch(Function::kConcatenation, grid, kThreads, x.data, skip.data, bias.data, other.data, y, lines, vectors,
                others);
  }
};

struct UpsampleNearest {
  static constexpr const char* kName = "UpsampleNearest";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // x (batch, ⌈height/2⌉, ⌈width/2⌉, channels)
      {ElementType::kFloat16, true},  // skip like x
      {ElementType::kFloat16, true},  // bias (channels)
  };
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16}};  // (batch, height, width, channels)

  explicit UpsampleNearest(const Attributes& attributes)
      : height_(attributes.integer("height")), width_(attributes.integer("width")) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), skip = call.input(1), bias = call.input(2);
    call.require_that(x.sizes.rank == 4, "x must be (batch, height, width, channels)");
    call.require_that(x.sizes.values[1] == (height_ + 1) / 2 && x.sizes.values[2] == (width_ + 1) / 2,
                      "height and width must be twice those of x, or one less");
    call.require_that(!skip || skip.sizes == x.sizes, "skip is like x");
    call.require_that(!bias || bias.sizes == Sizes{{x.sizes.last()}, 1}, "bias is (channels)");
    const int images = call.count(x.sizes.values[0]), vectors = call.vectors(x.sizes);
    Sizes large = x.sizes;
    large.values[1] = height_;
    large.values[2] = width_;
    void* y = call.output(0, large);
    call.launch(Function::kUpsampling, grid_of(x.sizes.lines(), vectors, 1), kThreads, x.data, skip.data,
                bias.data, y, images, height_, width_, vectors);
  }

 private:
  int height_, width_;
};

struct Interleave {
  static constexpr const char* kName = "Interleave";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // z (batch, height + 1, width + 1, 4·channels)
      {ElementType::kFloat16, true},  // bias (channels)
  };
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16}};  // (batch, 2·height, 2·width, channels)

  explicit Interleave(const Attributes&) {}

  void run(const Call& call) const {
    const Tensor z = call.input(0), bias = call.input(1);
    call.require_that(z.sizes.rank == 4, "z must be (batch, height + 1, width + 1, 4·channels)");
    call.require_that(z.sizes.values[1] > 1 && z.sizes.values[2] > 1, "z has one row and one column more than a phase");
    call.require_that(z.sizes.last() % 32 == 0, "each phase's channels must be a multiple of 8");
    const int64_t images = z.sizes.values[0], rows = z.sizes.values[1] - 1;
    const int columns = call.count(z.sizes.values[2] - 1);
    const Sizes large = {{images, 2 * rows, 2 * columns, z.sizes.last() / 4}, 4};
    call.require_that(!bias || bias.sizes == Sizes{{large.last()}, 1}, "bias is (channels)");
    const int vectors = call.vectors(large);
    const int64_t across = call.count(static_cast<int64_t>(columns) * vectors);
    void* y = call.output(0, large);
    const Grid grid = {(across + kThreads - 1) / kThreads, rows, images};
    call.launch(Function::kInterleaving, grid, kThreads, z.data, bias.data, y, columns, vectors);
  }
};
