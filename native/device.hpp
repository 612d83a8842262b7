// One device: the kernels that were loaded for it, and how they are launched.
#pragma once

#include <cstdint>

// The CUDA driver's CUlaunchConfig and cuLaunchKernelEx (CUDA Driver API, Execution Control).
struct LaunchConfig {
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  void* stream;
  const void* attributes;
  uint32_t attribute_count;
};
using Launch = int (*)(const LaunchConfig*, void* function, void** arguments, void** extra);

// The kernels by their names in the CUDA source; the order is that of kFunctionNames.
enum class Function : int {
  kGroupNormStatisticsPlain,
  kGroupNormStatisticsChannels,
  kGroupNormStatisticsSkip,
  kGroupNormApplyPlain,
  kGroupNormApplyChannels,
  kGroupNormApplySkip,
  kLayerNorm,
  kSoftmax1,
  kSoftmax2,
  kSoftmax4,
  kSoftmax8,
  kGeglu,
  kAddition,
  kConcatenation,
  kUpsampling,
  kInterleaving,
  kCount,
};

constexpr int kFunctionCount = static_cast<int>(Function::kCount);
constexpr const char* kFunctionNames[kFunctionCount] = {
    "group_norm_statistics_plain",
    "group_norm_statistics_channels",
    "group_norm_statistics_skip",
    "group_norm_apply_plain",
    "group_norm_apply_channels",
    "group_norm_apply_skip",
    "layer_norm",
    "softmax_1",
    "softmax_2",
    "softmax_4",
    "softmax_8",
    "geglu",
    "addition",
    "concatenation",
    "upsampling",
    "interleaving",
};

struct Device {
  const char* provider = nullptr;  // null while nothing was given
  Launch launch = nullptr;
  void* functions[kFunctionCount] = {};
};
