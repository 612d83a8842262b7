// One block of a kernel on a host: its threads are fibers that switch at barriers and at shuffles.
//
// Between two of these a thread runs alone. The order in which threads take turns is the caller's choice: a
// kernel whose result depends on it has a race.

#pragma once

#include <cstdint>
#include <string>

namespace emulator {

constexpr unsigned kWarp = 32;
constexpr unsigned kLargestBlock = 1024;

enum class Order : int { kForward, kBackward, kShuffled };

struct Schedule {
  Order order = Order::kForward;
  std::uint64_t seed = 0;
};

// `count` places in the schedule's order; a shuffled one is another each time that `draw` is another.
void arrange(const Schedule& schedule, std::uint64_t draw, unsigned count, unsigned* places);

// Runs `body(arguments)` once in each of `count` threads. blockIdx and blockDim are set already.
// Gives back what went wrong, nothing where all threads returned.
std::string run_block(void (*body)(void**), void** arguments, unsigned count, const Schedule& schedule);

}  // namespace emulator
