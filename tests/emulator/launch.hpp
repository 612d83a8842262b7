// A table of kernels that can be launched as the CUDA driver launches them.

#pragma once

#include <cstddef>
#include <utility>

namespace emulator {

struct Kernel {
  const char* name;
  unsigned largest_block;  // its launch bound
  void (*run)(void** arguments);
  const unsigned* sizes;  // of its arguments, in bytes, and a zero
};

// A kernel's arguments lie where `arguments` points, each of the type that its signature says.
template <auto kKernel>
struct Bound;

template <typename... Arguments, void (*kKernel)(Arguments...)>
struct Bound<kKernel> {
  static constexpr unsigned kSizes[] = {sizeof(Arguments)..., 0};

  static void run(void** arguments) { call(arguments, std::index_sequence_for<Arguments...>{}); }

 private:
  template <std::size_t... kIndices>
  static void call(void** arguments, std::index_sequence<kIndices...>) {
    kKernel(*static_cast<Arguments*>(arguments[kIndices])...);
  }
};

// The first of what __launch_bounds__ was given.
template <typename... Others>
constexpr unsigned launch_bound(unsigned threads, Others...) {
  return threads;
}

// Made from the kernels' text, by build.py.
extern const Kernel kernels[];
extern const int kernel_count;

}  // namespace emulator
