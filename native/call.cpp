#include "call.hpp"

namespace {
constexpr int kVector = 8;
constexpr int64_t kMostAcross = 0x7fffffff;  // CUDA's limit of a grid's first axis
constexpr int64_t kMostDown = 65535;         // and of the others
}  // namespace

Call::Call(const char* name, const OrtApi& api, const Device& device, OrtKernelContext* context)
    : name_(name), api_(api), device_(device), context_(context) {
  require(api_.KernelContext_GetGPUComputeStream(context_, &stream_));
  require(api_.KernelContext_GetInputCount(context_, &inputs_));
  require(api_.KernelContext_GetOutputCount(context_, &outputs_));
}

Tensor Call::input(size_t index) const {
  Tensor tensor;
  const OrtValue* value = nullptr;
  if (index < inputs_) require(api_.KernelContext_GetInput(context_, index, &value));
  if (value == nullptr) return tensor;
  ElementType type = ElementType::kUndefined;
  const int64_t* sizes = nullptr;
  require(api_.GetTensorElementTypeAndShapeDataReference(value, &type, &sizes, &tensor.sizes.rank));
  require_that(tensor.sizes.rank >= 1 && tensor.sizes.rank <= Sizes::kMost, "an input has no axis, or too many");
  for (size_t axis = 0; axis < tensor.sizes.rank; ++axis) {
    require_that(sizes[axis] > 0, "an input is empty");
    tensor.sizes.values[axis] = sizes[axis];
  }
  void* data = nullptr;
  require(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

void* Call::output(size_t index, const Sizes& sizes) const {
  if (index >= outputs_) return nullptr;
  OrtValue* value = nullptr;
  require(api_.KernelContext_GetOutput(context_, index, sizes.values, sizes.rank, &value));
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  require(api_.GetTensorMutableData(value, &data));
  return data;
}

int Call::count(int64_t size) const {
  require_that(size > 0 && size <= kMostAcross, "a size does not fit into 31 bits");
  return static_cast<int>(size);
}

int Call::vectors(const Sizes& sizes) const {
  require_that(sizes.last() % kVector == 0, "the last axis must be a multiple of 8");
  return count(sizes.last() / kVector);
}

void Call::launch_with(Function function, const Grid& grid, int threads, void** arguments) const {
  require_that(grid[0] <= kMostAcross && grid[1] <= kMostDown && grid[2] <= kMostDown,
               "the tensor is too large for one launch");
  const LaunchConfig config = {
      {static_cast<uint32_t>(grid[0]), static_cast<uint32_t>(grid[1]), static_cast<uint32_t>(grid[2])},
      {static_cast<uint32_t>(threads), 1, 1},
      0,
      stream_,
      nullptr,
      0,
  };
  const int which = static_cast<int>(function);
  const int status = device_.launch(&config, device_.functions[which], arguments, nullptr);
  if (status != 0)
    fail(api_, ORT_EP_FAIL, "onnxsd %s: launching %s failed with CUDA error %d", name_, kFunctionNames[which],
         status);
}
