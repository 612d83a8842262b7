// Group and layer normalization of x + skip + bias, and that sum; softmax.
#pragma once

#include "operator.hpp"

// group_norm.cu's Shape.
struct GroupNormShape {
  int pixels, vectors, groups;
  int parts, pixels_per_part;
  int slab_vectors, slab_groups;
  int group_channels;
  int rows;
};

struct FusedGroupNorm {
  static constexpr const char* kName = "FusedGroupNorm";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // x (batch, height, width, channels)
      {ElementType::kFloat},          // gamma (channels)
      {ElementType::kFloat},          // beta (channels)
      {ElementType::kFloat16, true},  // skip like x, or (batch, channels)
      {ElementType::kFloat16, true},  // bias (channels)
  };
  static constexpr Operand kOutputs[] = {
      {ElementType::kFloat16, false, input(0) | input(3)},  // y
      {ElementType::kFloat},                                // partials (batch, groups, parts, 4), scratch
      {ElementType::kFloat16, true, input(0) | input(3)},   // the sum
  };
  static constexpr int kThreads = 384;  // as in group_norm.cu
  static constexpr int kVector = 8;

  explicit FusedGroupNorm(const Attributes& attributes)
      : groups_(attributes.integer("groups")),
        slab_(attributes.integer("slab")),
        parts_(attributes.integer("parts")),
        activation_(attributes.integer("activation")),
        epsilon_(attributes.number("epsilon")) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), gamma = call.input(1), beta = call.input(2), skip = call.input(3),
                 bias = call.input(4);
    call.require_that(x.sizes.rank == 4, "x must be (batch, height, width, channels)");
    const int64_t batch = x.sizes.values[0];
    const int channels = call.count(x.sizes.last()), vectors = call.vectors(x.sizes);
    const int pixels = call.count(x.sizes.values[1] * x.sizes.values[2]);
    const Sizes one_a_channel = {{channels}, 1};
    call.require_that(gamma.sizes == one_a_channel && beta.sizes == one_a_channel, "gamma and beta are (channels)");
    call.require_that(!bias || bias.sizes == one_a_channel, "bias is (channels)");
    const bool rows_only = skip && skip.sizes == Sizes{{batch, channels}, 2};
    call.require_that(!skip || rows_only || skip.sizes == x.sizes, "skip is like x, or (batch, channels)");
    call.require_that(groups_ > 0 && channels % groups_ == 0, "channels must divide into groups");
    call.require_that(slab_ > 0 && channels % slab_ == 0 && slab_ % (channels / groups_) == 0,
                      "channels must divide into slabs, and a slab into whole groups");
    call.require_that(slab_ % kVector == 0 && slab_ / kVector <= kThreads, "a slab is a multiple of 8, up to 3072");
    call.require_that(slab_ / (channels / groups_) <= kThreads, "a slab has up to 384 groups");
    call.require_that(parts_ > 0, "parts must be positive");
    call.count(static_cast<int64_t>(pixels) * vectors);

    const void* full = rows_only ? nullptr : skip.data;
    const void* row = rows_only ? skip.data : nullptr;
    const Grid grid = {parts_, channels / slab_, batch};
    const int group_channels = channels / groups_, slab_vectors = slab_ / kVector;
    const GroupNormShape shape = {pixels, vectors, groups_, parts_, (pixels + parts_ - 1) / parts_, slab_vectors,
                                  slab_ / group_channels, group_channels, kThreads / slab_vectors};
    void* y = call.output(0, x.sizes);
    void* partials = call.output(1, {{batch, groups_, parts_, 4}, 4});
    void* sum = call.output(2, x.sizes);
    // Nothing is added: the sum, if it is asked for, is written by the kernel that adds nothing to each channel.
    const int added = full ? 2 : (row || bias || sum ? 1 : 0);
    call.launch(of(Function::kGroupNormStatisticsPlain, added), grid, kThreads, x.data, full, row,
                bias.data, sum, partials, shape);
    // What was summed and stored is read in place of its summands.
    const void* source = sum ? sum : x.data;
    const void* nothing = nullptr;
    call.launch(of(Function::kGroupNormApplyPlain, sum ? 0 : added), grid, kThreads, source,
                sum ? nothing : full, sum ? nothing : row, sum ? nothing : bias.data, gamma.data, beta.data,
                partials, y, shape, epsilon_, activation_);
  }

 private:
  static Function of(Function plain, int added) { return static_cast<Function>(static_cast<int>(plain) + added); }

  int groups_, slab_, parts_, activation_;
  float epsilon_;
};

struct FusedLayerNorm {
  static constexpr const char* kName = "FusedLayerNorm";
  static constexpr Operand kInputs[] = {
      {ElementType::kFloat16},        // x (…, width)
      {ElementType::kFloat16},        // gamma (width)
      {ElementType::kFloat16},        // beta (width)
      {ElementType::kFloat16, true},  // skip like x
      {ElementType::kFloat16, true},  // bias (width)
  };
  static constexpr Operand kOutputs[] = {
      {ElementType::kFloat16, false, input(0) | input(3)},  // y
      {ElementType::kFloat16, true, input(0) | input(3)},   // the sum
  };
  static constexpr int kWarp = 32, kMostThreads = 256;  // as in rows.cu

  explicit FusedLayerNorm(const Attributes& attributes) : epsilon_(attributes.number("epsilon")) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0), gamma = call.input(1), beta = call.input(2), skip = call.input(3),
                 bias = call.input(4);
    const int vectors = call.vectors(x.sizes), rows = call.count(x.sizes.lines());
    const Sizes one_a_column = {{x.sizes.last()}, 1};
    call.require_that(gamma.sizes == one_a_column && beta.sizes == one_a_column, "gamma and beta are (width)");
    call.require_that(!bias || bias.sizes == one_a_column, "bias is (width)");
    call.require_that(!skip || skip.sizes == x.sizes, "skip is like x");
    const int threads = (vectors + kWarp - 1) / kWarp * kWarp;
    call.require_that(threads <= kMostThreads, "no width above 2048 is known");
    void* y = call.output(0, x.sizes);
    void* sum = call.output(1, x.sizes);
    const float inverse_width = 1.0f / static_cast<float>(x.sizes.last());
    call.launch(Function::kLayerNorm, {rows, 1, 1}, threads, x.data, skip.data, bias.data, gamma.data, beta.data, y,
                sum, vectors, inverse_width, epsilon_);
  }

 private:
  float epsilon_;
};

struct RowSoftmax {
  static constexpr const char* kName = "RowSoftmax";
  static constexpr Operand kInputs[] = {{ElementType::kFloat16}};  // (…, width)
  static constexpr Operand kOutputs[] = {{ElementType::kFloat16, false, input(0)}};
  static constexpr int kThreads = 512;  // as in rows.cu

  explicit RowSoftmax(const Attributes&) {}

  void run(const Call& call) const {
    const Tensor x = call.input(0);
    const int vectors = call.vectors(x.sizes), rows = call.count(x.sizes.lines());
    const int each = (vectors + kThreads - 1) / kThreads;
    call.require_that(each <= 8, "no width above 32768 is known");
    const Function function = each == 1   ? Function::kSoftmax1
                              : each == 2 ? Function::kSoftmax2
                              : each <= 4 ? Function::kSoftmax4
                                          : Function::kSoftmax8;
    void* y = call.output(0, x.sizes);
    call.launch(function, {rows, 1, 1}, kThreads, x.data, y, vectors);
  }
};
