// Launches kernels block after block, by a function with the signature of cuLaunchKernelEx.

#include "launch.hpp"

#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "block.hpp"
#include "cuda.hpp"

#define ONNXSD_EXPORTED extern "C" __attribute__((visibility("default")))

// Where the linker lays the .bss of this library: the kernels' shared memory.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

namespace emulator {
namespace {

// CUlaunchConfig and two of CUresult's values.
struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};
enum { kSuccess = 0, kInvalidValue = 1, kLaunchFailed = 719 };

constexpr unsigned kLargestGrid[] = {0x7fffffff, 65535, 65535};
constexpr int kNaNs = 0xff;  // bytes of float16 and float32 numbers that are none

struct State {
  std::mutex alone;
  Schedule schedule;
  std::string failure;
  std::vector<unsigned> blocks;
  std::vector<std::int64_t> launches;
};

ONNXSD_KEPT State* state = nullptr;

State& own() {
  if (state == nullptr) state = new State{};
  return *state;
}

std::string refused(const LaunchConfig& config, std::uintptr_t handle, void** extra) {
  if (handle == 0 || handle > static_cast<std::uintptr_t>(kernel_count)) return "no such kernel";
  const Kernel& kernel = kernels[handle - 1];
  const std::string name = kernel.name;
  if (extra != nullptr) return name + ": arguments were given as `extra`";
  for (int axis = 0; axis < 3; ++axis)
    if (config.grid[axis] == 0 || config.grid[axis] > kLargestGrid[axis])
      return name + ": a grid of (" + std::to_string(config.grid[0]) + ", " + std::to_string(config.grid[1]) +
             ", " + std::to_string(config.grid[2]) + ") blocks";
  if (config.block[0] == 0 || config.block[1] != 1 || config.block[2] != 1)
    return name + ": a block must be a line of threads here";
  if (config.block[0] > kernel.largest_block || config.block[0] > kLargestBlock)
    return name + ": blocks of " + std::to_string(config.block[0]) + " threads, where its bound is " +
           std::to_string(kernel.largest_block);
  if (config.shared_bytes != 0) return name + ": asks for dynamic shared memory";
  return {};
}

std::string run_grid(const Kernel& kernel, const LaunchConfig& config, void** arguments) {
  const unsigned layer = config.grid[0] * config.grid[1], count = layer * config.grid[2];
  std::vector<unsigned>& blocks = own().blocks;
  blocks.resize(count);
  arrange(own().schedule, count, count, blocks.data());
  blockDim = {config.block[0], 1, 1};
  gridDim = {config.grid[0], config.grid[1], config.grid[2]};
  for (const unsigned block : blocks) {
    blockIdx = {block % config.grid[0], block % layer / config.grid[0], block / layer};
    std::memset(__bss_start, kNaNs, _end - __bss_start);
    const std::string failure = run_block(kernel.run, arguments, config.block[0], own().schedule);
    if (!failure.empty()) return std::string(kernel.name) + ": " + failure;
  }
  return {};
}

}  // namespace

ONNXSD_KEPT std::uint64_t approximation_seed = 0;

}  // namespace emulator

// Names of the kernels in order, null after the last. A kernel's handle is its index + 1.
ONNXSD_EXPORTED const char* kernel_name(std::int32_t index) {
  return index >= 0 && index < emulator::kernel_count ? emulator::kernels[index].name : nullptr;
}

// The most threads that a block of a kernel may have.
ONNXSD_EXPORTED std::uint32_t largest_block(std::int32_t index) { return emulator::kernels[index].largest_block; }

// How many bytes one of a kernel's arguments has; 0 behind the last.
ONNXSD_EXPORTED std::uint32_t argument_size(std::int32_t index, std::int32_t argument) {
  return emulator::kernels[index].sizes[argument];
}

ONNXSD_EXPORTED std::int64_t launches(std::int32_t index) {
  const auto& launches = emulator::own().launches;
  return static_cast<std::size_t>(index) < launches.size() ? launches[index] : 0;
}

// In which order threads and blocks run, and how the approximate instructions are wrong (0: not at all).
ONNXSD_EXPORTED void choose(std::int32_t order, std::uint64_t seed, std::uint64_t approximation) {
  emulator::own().schedule = {static_cast<emulator::Order>(order), seed};
  emulator::approximation_seed = approximation;
}

// What was wrong with the last launch.
ONNXSD_EXPORTED const char* failure() { return emulator::own().failure.c_str(); }

ONNXSD_EXPORTED std::int32_t launch(const emulator::LaunchConfig* config, void* function, void** arguments,
                                    void** extra) {
  emulator::State& own = emulator::own();
  const std::lock_guard<std::mutex> alone(own.alone);
  const auto handle = reinterpret_cast<std::uintptr_t>(function);
  own.failure = emulator::refused(*config, handle, extra);
  if (!own.failure.empty()) return emulator::kInvalidValue;
  own.launches.resize(emulator::kernel_count);
  ++own.launches[handle - 1];
  own.failure = emulator::run_grid(emulator::kernels[handle - 1], *config, arguments);
  return own.failure.empty() ? emulator::kSuccess : emulator::kLaunchFailed;
}
