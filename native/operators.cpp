// onnxsd's operators for ONNX Runtime: what the library exports.
//
// Python loads the kernels of a device once and gives them with `onnxsd_provide`; ONNX Runtime asks for the
// operators with `RegisterCustomOps` for each session. After that nothing here needs Python.
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "elementwise.hpp"
#include "norms.hpp"

#ifdef _WIN32
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace {

constexpr const char* kDomain = "onnxsd";
// The entry of a session's configuration that says which device it runs on.
constexpr const char* kDeviceEntry = "onnxsd.device";
constexpr int kSlots = 64;
constexpr const char* kProviders[] = {"CUDAExecutionProvider", "CPUExecutionProvider"};

// One device's operators. They live as long as the process: sessions point to them.
struct Slot {
  Device device;
  OperatorOf<FusedGroupNorm> group_norm;
  OperatorOf<FusedLayerNorm> layer_norm;
  OperatorOf<Geglu> geglu;
  OperatorOf<FusedAdd> add;
  OperatorOf<FusedConcat> concat;
  OperatorOf<UpsampleNearest> upsample;
  OperatorOf<RowSoftmax> softmax;
  OperatorOf<Interleave> interleave;
  OrtCustomOpDomain* domain = nullptr;

  Slot() {
    group_norm.device = layer_norm.device = geglu.device = add.device = concat.device = upsample.device =
        softmax.device = interleave.device = &device;
  }

  OrtCustomOpDomain* domain_for(const OrtApi& api) {
    if (domain != nullptr) return domain;
    OrtCustomOpDomain* made = nullptr;
    require(api.CreateCustomOpDomain(kDomain, &made));
    const OrtCustomOp* all[] = {&group_norm, &layer_norm, &geglu, &add, &concat, &upsample, &softmax, &interleave};
    for (const OrtCustomOp* op : all) require(api.CustomOpDomain_Add(made, op));
    return domain = made;
  }
};

// Guards what follows while sessions are being made; no run of a session comes here.
std::mutex registering;
Slot* slots[kSlots] = {};

Slot& slot_of(const OrtApi& api, const OrtSessionOptions* options) {
  char text[16] = {};
  size_t size = sizeof text;
  require(api.GetSessionConfigEntry(options, kDeviceEntry, text, &size));
  char* end = nullptr;
  const long number = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || number < 0 || number >= kSlots || slots[number] == nullptr)
    fail(api, ORT_INVALID_ARGUMENT, "onnxsd: no kernels were loaded for device %s", text);
  return *slots[number];
}

}  // namespace

// ONNX Runtime's API version that the operators need.
EXPORT int32_t onnxsd_api_version() { return static_cast<int32_t>(kApiVersion); }

// The mark of what the library was built from, by which it is found in the file (onnxsd/machine/built_from.py).
#define QUOTED(name) #name
#define QUOTED_VALUE(macro) QUOTED(macro)
EXPORT const char* onnxsd_built_from() { return QUOTED_VALUE(ONNXSD_BUILT_FROM); }

// The name of a kernel that they launch; null after the last.
EXPORT const char* onnxsd_function(int32_t index) {
  return index >= 0 && index < kFunctionCount ? kFunctionNames[index] : nullptr;
}

// The kernels of a device, one for each name in order: CUfunctions of its primary context, and cuLaunchKernelEx.
// Not 0 where the slot is out of range, the provider is not known, a pointer is null, or memory has run out.
EXPORT int32_t onnxsd_provide(int32_t slot, const char* provider, void* launch, void* const* functions) {
  const char* known = nullptr;
  for (const char* name : kProviders)
    if (provider != nullptr && std::strcmp(provider, name) == 0) known = name;
  if (slot < 0 || slot >= kSlots || known == nullptr || launch == nullptr || functions == nullptr) return 1;
  const std::lock_guard<std::mutex> guard(registering);
  if (slots[slot] == nullptr) slots[slot] = new (std::nothrow) Slot;
  if (slots[slot] == nullptr) return 1;
  Device& device = slots[slot]->device;
  device.provider = known;
  device.launch = reinterpret_cast<Launch>(launch);
  std::memcpy(device.functions, functions, sizeof device.functions);
  return 0;
}

EXPORT OrtStatus* ORT_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(kApiVersion);
  if (api == nullptr) {
    char message[160];
    std::snprintf(message, sizeof message, "onnxsd's operators need ONNX Runtime 1.%u or later, this is %s",
                  kApiVersion, base->GetVersionString());
    return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, message);
  }
  try {
    const std::lock_guard<std::mutex> guard(registering);
    require(api->AddCustomOpDomain(options, slot_of(*api, options).domain_for(*api)));
    return nullptr;
  } catch (const Failure& failure) {
    return failure.status;
  }
}
