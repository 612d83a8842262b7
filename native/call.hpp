// One run of a node: its tensors, checked, and the launches that it makes on ONNX Runtime's stream.
//
// Nothing here allocates or locks while all goes well; what goes wrong is thrown as a Failure, which the
// operator turns into ONNX Runtime's status.
#pragma once

#include <array>
#include <cstdio>

#include "device.hpp"
#include "ort_abi.hpp"

struct Failure {
  OrtStatus* status;
};

inline void require(OrtStatus* status) {
  if (status != nullptr) throw Failure{status};
}

template <class... Words>
[[noreturn]] void fail(const OrtApi& api, OrtErrorCode code, const char* format, Words... words) {
  char message[256];
  std::snprintf(message, sizeof message, format, words...);
  throw Failure{api.CreateStatus(code, message)};
}

// The sizes of a tensor, outermost first.
struct Sizes {
  static constexpr size_t kMost = 8;
  int64_t values[kMost] = {};
  size_t rank = 0;

  int64_t last() const { return values[rank - 1]; }
  // How many there are without the last axis.
  int64_t lines() const {
    int64_t product = 1;
    for (size_t axis = 0; axis + 1 < rank; ++axis) product *= values[axis];
    return product;
  }
  bool operator==(const Sizes& other) const {
    if (rank != other.rank) return false;
    for (size_t axis = 0; axis < rank; ++axis)
      if (values[axis] != other.values[axis]) return false;
    return true;
  }
};

// An input: null data where it is not given.
struct Tensor {
  const void* data = nullptr;
  Sizes sizes;

  explicit operator bool() const { return data != nullptr; }
};

// Blocks along each axis.
using Grid = std::array<int64_t, 3>;

class Call {
 public:
  Call(const char* name, const OrtApi& api, const Device& device, OrtKernelContext* context);

  Tensor input(size_t index) const;
  // Where an output of these sizes is to be written; null where nobody wants it.
  void* output(size_t index, const Sizes& sizes) const;

  // Refuses sizes that a kernel cannot take, in words that name the operator.
  void require_that(bool holds, const char* problem) const {
    if (!holds) fail(api_, ORT_INVALID_ARGUMENT, "onnxsd %s: %s", name_, problem);
  }
  // A size as the kernels count: they use 32 bits for all but offsets.
  int count(int64_t size) const;
  // How many vectors of eight float16 numbers a last axis has.
  int vectors(const Sizes& sizes) const;

  template <class... Arguments>
  void launch(Function function, const Grid& grid, int threads, Arguments... arguments) const {
    void* pointers[] = {&arguments...};
    launch_with(function, grid, threads, pointers);
  }

 private:
  void launch_with(Function function, const Grid& grid, int threads, void** arguments) const;

  const char* name_;
  const OrtApi& api_;
  const Device& device_;
  OrtKernelContext* context_;
  void* stream_ = nullptr;
  size_t inputs_ = 0;
  size_t outputs_ = 0;
};
