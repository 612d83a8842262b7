// How an operator is put into ONNX Runtime: OperatorOf<Kernel> is an OrtCustomOp for a class like this:
//
//   struct Kernel {
//     static constexpr const char* kName = "GEGLU";
//     static constexpr Operand kInputs[] = {{ElementType::kFloat16}, …};
//     static constexpr Operand kOutputs[] = {{ElementType::kFloat16}, …};   // may lie over inputs
//     explicit Kernel(const Attributes&);   // made once for each node
//     void run(const Call&) const;          // once a run
//   };
#pragma once

#include <iterator>
#include <new>

#include "call.hpp"

struct Operand {
  ElementType type;
  bool optional = false;
  // Of an output: the inputs, a bit each, in whose memory it may lie once nobody else needs them. In a launch no
  // thread reads another's element of them after it may have been written. `OWN_IN_PLACE` in
  // onnxsd/ops/memory.py names the operators that have such outputs.
  unsigned over = 0;
};

constexpr unsigned input(int index) { return 1u << index; }

// Pairs of an input and an output that may share memory, as ONNX Runtime takes them.
template <class Kernel>
struct Overlaps {
  static constexpr size_t kMost = std::size(Kernel::kInputs) * std::size(Kernel::kOutputs);
  int inputs[kMost] = {}, outputs[kMost] = {};
  size_t count = 0;

  Overlaps() {
    for (size_t output = 0; output < std::size(Kernel::kOutputs); ++output) {
      for (size_t index = 0; index < std::size(Kernel::kInputs); ++index) {
        if (!(Kernel::kOutputs[output].over & input(static_cast<int>(index)))) continue;
        inputs[count] = static_cast<int>(index);
        outputs[count++] = static_cast<int>(output);
      }
    }
  }
};

// A node's attributes; each must be there.
class Attributes {
 public:
  Attributes(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}
  int integer(const char* name) const {
    int64_t value = 0;
    require(api_.KernelInfoGetAttribute_int64(info_, name, &value));
    if (value < 0 || value > 0x7fffffff) fail(api_, ORT_INVALID_ARGUMENT, "onnxsd: %s is out of range", name);
    return static_cast<int>(value);
  }
  float number(const char* name) const {
    float value = 0.0f;
    require(api_.KernelInfoGetAttribute_float(info_, name, &value));
    return value;
  }

 private:
  const OrtApi& api_;
  const OrtKernelInfo* info_;
};

template <class Kernel>
struct OperatorOf : OrtCustomOp {
  const Device* device = nullptr;

  OperatorOf() : OrtCustomOp{} {
    version = kApiVersion;
    GetName = [](const OrtCustomOp*) { return Kernel::kName; };
    GetExecutionProviderType = [](const OrtCustomOp* op) { return self(op).device->provider; };
    GetInputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kInputs); };
    GetInputType = [](const OrtCustomOp*, size_t index) { return Kernel::kInputs[index].type; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t index) { return is(Kernel::kInputs[index]); };
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };  // on the device
    GetOutputTypeCount = [](const OrtCustomOp*) { return std::size(Kernel::kOutputs); };
    GetOutputType = [](const OrtCustomOp*, size_t index) { return Kernel::kOutputs[index].type; };
    GetOutputCharacteristic = [](const OrtCustomOp*, size_t index) { return is(Kernel::kOutputs[index]); };
    GetVariadicInputMinArity = GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetVariadicOutputMinArity = GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    GetStartVersion = GetEndVersion = [](const OrtCustomOp*) { return 1; };
    GetMayInplace = [](int** inputs, int** outputs) -> size_t {
      static Overlaps<Kernel> overlaps;
      *inputs = overlaps.inputs;
      *outputs = overlaps.outputs;
      return overlaps.count;
    };
    ReleaseMayInplace = [](int*, int*) {};  // they live as long as the library
    CreateKernelV2 = Create;
    KernelComputeV2 = Compute;
    KernelDestroy = [](void* node) { delete static_cast<Node*>(node); };
  }

 private:
  // One node of a session's graph.
  struct Node {
    Kernel kernel;
    const OrtApi& api;
    const Device& device;
  };

  static const OperatorOf& self(const OrtCustomOp* op) { return *static_cast<const OperatorOf*>(op); }
  static Characteristic is(const Operand& operand) {
    return operand.optional ? Characteristic::kOptional : Characteristic::kRequired;
  }

  static OrtStatus* ORT_CALL Create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info,
                                    void** node) noexcept {
    try {
      *node = new Node{Kernel(Attributes(*api, info)), *api, *self(op).device};
      return nullptr;
    } catch (const Failure& failure) {
      return failure.status;
    } catch (const std::bad_alloc&) {
      return api->CreateStatus(ORT_FAIL, "onnxsd: out of memory");
    }
  }

  static OrtStatus* ORT_CALL Compute(void* opaque, OrtKernelContext* context) noexcept {
    const Node& node = *static_cast<const Node*>(opaque);
    try {
      node.kernel.run(Call(Kernel::kName, node.api, node.device, context));
      return nullptr;
    } catch (const Failure& failure) {
      return failure.status;
    }
  }
};
