// The part of ONNX Runtime's C ABI that is used here, declared anew: nothing is needed to build but a compiler.
//
// ONNX Runtime promises that neither the order of OrtApi's entries nor the fields of OrtCustomOp ever change;
// new ones are added at the end. Source: include/onnxruntime/core/session/onnxruntime_c_api.h.
#pragma once

#include <cstddef>
#include <cstdint>

// The version whose entries are used: GetTensorElementTypeAndShapeDataReference came with ONNX Runtime 1.24.
constexpr uint32_t kApiVersion = 24;

#ifdef _WIN32
#define ORT_CALL __stdcall
#else
#define ORT_CALL
#endif

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtValue;
struct OrtShapeInferContext;

enum OrtErrorCode : int { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9, ORT_EP_FAIL = 11 };
enum class ElementType : int { kUndefined = 0, kFloat = 1, kFloat16 = 10 };
enum class Characteristic : int { kRequired = 0, kOptional = 1 };

// ONNX Runtime's table of functions; the entries that are used, by their place in it.
class OrtApi {
 public:
  OrtStatus* CreateStatus(OrtErrorCode code, const char* message) const {
    return At<0, OrtStatus*(ORT_CALL*)(OrtErrorCode, const char*)>()(code, message);
  }
  OrtStatus* CreateCustomOpDomain(const char* domain, OrtCustomOpDomain** out) const {
    return At<26, OrtStatus*(ORT_CALL*)(const char*, OrtCustomOpDomain**)>()(domain, out);
  }
  OrtStatus* CustomOpDomain_Add(OrtCustomOpDomain* domain, const struct OrtCustomOp* op) const {
    return At<27, OrtStatus*(ORT_CALL*)(OrtCustomOpDomain*, const struct OrtCustomOp*)>()(domain, op);
  }
  OrtStatus* AddCustomOpDomain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
    return At<28, OrtStatus*(ORT_CALL*)(OrtSessionOptions*, OrtCustomOpDomain*)>()(options, domain);
  }
  OrtStatus* GetTensorMutableData(OrtValue* value, void** out) const {
    return At<51, OrtStatus*(ORT_CALL*)(OrtValue*, void**)>()(value, out);
  }
  OrtStatus* KernelInfoGetAttribute_float(const OrtKernelInfo* info, const char* name, float* out) const {
    return At<85, OrtStatus*(ORT_CALL*)(const OrtKernelInfo*, const char*, float*)>()(info, name, out);
  }
  OrtStatus* KernelInfoGetAttribute_int64(const OrtKernelInfo* info, const char* name, int64_t* out) const {
    return At<86, OrtStatus*(ORT_CALL*)(const OrtKernelInfo*, const char*, int64_t*)>()(info, name, out);
  }
  OrtStatus* KernelContext_GetInputCount(const OrtKernelContext* context, size_t* out) const {
    return At<88, OrtStatus*(ORT_CALL*)(const OrtKernelContext*, size_t*)>()(context, out);
  }
  OrtStatus* KernelContext_GetOutputCount(const OrtKernelContext* context, size_t* out) const {
    return At<89, OrtStatus*(ORT_CALL*)(const OrtKernelContext*, size_t*)>()(context, out);
  }
  OrtStatus* KernelContext_GetInput(const OrtKernelContext* context, size_t index, const OrtValue** out) const {
    return At<90, OrtStatus*(ORT_CALL*)(const OrtKernelContext*, size_t, const OrtValue**)>()(context, index, out);
  }
  OrtStatus* KernelContext_GetOutput(OrtKernelContext* context, size_t index, const int64_t* sizes, size_t rank,
                                     OrtValue** out) const {
    using Entry = OrtStatus*(ORT_CALL*)(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**);
    return At<91, Entry>()(context, index, sizes, rank, out);
  }
  OrtStatus* KernelContext_GetGPUComputeStream(const OrtKernelContext* context, void** out) const {
    return At<193, OrtStatus*(ORT_CALL*)(const OrtKernelContext*, void**)>()(context, out);
  }
  OrtStatus* GetSessionConfigEntry(const OrtSessionOptions* options, const char* key, char* value,
                                   size_t* size) const {
    using Entry = OrtStatus*(ORT_CALL*)(const OrtSessionOptions*, const char*, char*, size_t*);
    return At<238, Entry>()(options, key, value, size);
  }
  // The shape is the value's own: nothing is copied, and nothing is to be freed.
  OrtStatus* GetTensorElementTypeAndShapeDataReference(const OrtValue* value, ElementType* type,
                                                       const int64_t** sizes, size_t* rank) const {
    using Entry = OrtStatus*(ORT_CALL*)(const OrtValue*, ElementType*, const int64_t**, size_t*);
    return At<414, Entry>()(value, type, sizes, rank);
  }

 private:
  template <size_t kPlace, class Entry>
  Entry At() const {
    return reinterpret_cast<Entry>(entries_[kPlace]);
  }
  void (*entries_[415])();
};

struct OrtApiBase {
  const OrtApi*(ORT_CALL* GetApi)(uint32_t version);
  const char*(ORT_CALL* GetVersionString)();
};

// What ONNX Runtime asks of an operator. Entries that stay null are those that it does not need.
struct OrtCustomOp {
  uint32_t version;
  void*(ORT_CALL* CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char*(ORT_CALL* GetName)(const OrtCustomOp*);
  const char*(ORT_CALL* GetExecutionProviderType)(const OrtCustomOp*);
  ElementType(ORT_CALL* GetInputType)(const OrtCustomOp*, size_t index);
  size_t(ORT_CALL* GetInputTypeCount)(const OrtCustomOp*);
  ElementType(ORT_CALL* GetOutputType)(const OrtCustomOp*, size_t index);
  size_t(ORT_CALL* GetOutputTypeCount)(const OrtCustomOp*);
  void(ORT_CALL* KernelCompute)(void* kernel, OrtKernelContext*);
  void(ORT_CALL* KernelDestroy)(void* kernel);
  Characteristic(ORT_CALL* GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  Characteristic(ORT_CALL* GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  int(ORT_CALL* GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int(ORT_CALL* GetVariadicInputMinArity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicOutputMinArity)(const OrtCustomOp*);
  int(ORT_CALL* GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus*(ORT_CALL* CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus*(ORT_CALL* KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus*(ORT_CALL* InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int(ORT_CALL* GetStartVersion)(const OrtCustomOp*);
  int(ORT_CALL* GetEndVersion)(const OrtCustomOp*);
  size_t(ORT_CALL* GetMayInplace)(int** inputs, int** outputs);
  void(ORT_CALL* ReleaseMayInplace)(int* inputs, int* outputs);
  size_t(ORT_CALL* GetAliasMap)(int** inputs, int** outputs);
  void(ORT_CALL* ReleaseAliasMap)(int* inputs, int* outputs);
};
