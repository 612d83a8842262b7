// Fibers are started by ucontext and switched by setjmp and longjmp, which ask the system for nothing.

#include "block.hpp"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <numeric>
#include <utility>

#include "cuda.hpp"
#include "device.hpp"

ONNXSD_KEPT uint3 threadIdx{}, blockIdx{}, blockDim{}, gridDim{};

namespace emulator {
namespace {

constexpr std::size_t kStack = 64 * 1024;
constexpr std::size_t kPage = 4096;

enum class At { kWork, kBarrier, kShuffle, kEnd };

struct Thread {
  At at;
  bool started;   // as a fiber, which outlives the block
  unsigned mask;  // of its shuffle, with the lane that it reads from and what it gives and gets
  unsigned source;
  float value;
  jmp_buf place;
  ucontext_t beginning;
};

struct Fibers {
  Thread threads[kLargestBlock];
  unsigned order[kLargestBlock];
  Thread* current;
  jmp_buf scheduler;
  void (*body)(void**);
  void** arguments;
  char* stacks;
  pthread_t owner;  // the system's thread that runs them all
  int fault;        // the signal that the current thread was stopped by, and where
  void* address;
};

ONNXSD_KEPT Fibers* fibers = nullptr;

void leave(At at) {
  Thread& own = *fibers->current;
  own.at = at;
  if (_setjmp(own.place) == 0) _longjmp(fibers->scheduler, 1);
}

// A fiber's life: one thread of each block that has so many.
void live() {
  for (;;) {
    fibers->body(fibers->arguments);
    leave(At::kEnd);
  }
}

__attribute__((noinline)) void resume(Thread& thread) {
  fibers->current = &thread;
  if (_setjmp(fibers->scheduler) != 0) return;
  if (thread.started) _longjmp(thread.place, 1);
  thread.started = true;
  setcontext(&thread.beginning);
}

void set_up() {
  if (fibers != nullptr) return;
  fibers = new Fibers{};
  // Below each stack lies a page that may not be touched.
  constexpr std::size_t kEach = kStack + kPage;
  void* const stacks = mmap(nullptr, kEach * kLargestBlock, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  fibers->stacks = static_cast<char*>(stacks);
  for (unsigned i = 0; i < kLargestBlock; ++i) mprotect(fibers->stacks + i * kEach, kPage, PROT_NONE);
}

// Sets a fiber to its beginning, whatever it was in the middle of.
void begin_anew(unsigned index) {
  Thread& thread = fibers->threads[index];
  if (thread.started) return;
  getcontext(&thread.beginning);
  // Stacks begin at different offsets within a page, lest they all share a few lines of the cache.
  thread.beginning.uc_stack.ss_sp = fibers->stacks + index * (kStack + kPage) + kPage;
  thread.beginning.uc_stack.ss_size = kStack - index % 32 * 128;
  thread.beginning.uc_link = nullptr;
  makecontext(&thread.beginning, live, 0);
}

void give_up(unsigned count) {
  for (unsigned i = 0; i < count; ++i) fibers->threads[i].started = false;
}

// Stops the thread that made a fault; one that no kernel made is left to whom it concerns.
void stop(int signal, siginfo_t* info, void*) {
  if (!pthread_equal(pthread_self(), fibers->owner)) {
    ::signal(signal, SIG_DFL);
    return;
  }
  fibers->fault = signal;
  fibers->address = info->si_addr;
  _longjmp(fibers->scheduler, 1);
}

// While it lives, what a kernel must not do stops its thread, not the process.
class Watch {
 public:
  Watch() {
    fibers->owner = pthread_self();
    // A stack that overflowed has no room for the handler.
    stack_t stack{};
    stack.ss_sp = spare_;
    stack.ss_size = sizeof spare_;
    sigaltstack(&stack, &stack_);
    struct sigaction action {};
    action.sa_sigaction = stop;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    for (int i = 0; i < kCount; ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~Watch() {
    for (int i = 0; i < kCount; ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigaltstack(&stack_, nullptr);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  static constexpr int kCount = 3;
  static constexpr int kSignals[kCount] = {SIGSEGV, SIGBUS, SIGFPE};

  struct sigaction before_[kCount];
  stack_t stack_;
  char spare_[64 * 1024];
};

std::string named_block() {
  return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + ")";
}

std::string named(unsigned index) { return "thread " + std::to_string(index) + " of " + named_block(); }

// What the current thread was stopped for.
std::string stopped(unsigned index) {
  if (fibers->fault == SIGFPE) return named(index) + " divides by zero";
  char text[64];
  std::snprintf(text, sizeof text, " touches memory that is not its own, at %p", fibers->address);
  return named(index) + text;
}

// Whether each thread of the warp that has not returned is at a shuffle; none is, where nothing waits for it.
bool all_shuffle(const Thread* lanes, unsigned count) {
  bool any = false;
  for (unsigned lane = 0; lane < count; ++lane) {
    if (lanes[lane].at != At::kShuffle && lanes[lane].at != At::kEnd) return false;
    any |= lanes[lane].at == At::kShuffle;
  }
  return any;
}

// What is wrong about the shuffle of a lane, where something is.
const char* fault(const Thread* lanes, unsigned lane, unsigned count) {
  const Thread& own = lanes[lane];
  if (!(own.mask >> lane & 1)) return "is not in the mask of its own shuffle";
  if (own.source >= count || lanes[own.source].at != At::kShuffle)
    return "shuffles with a lane that is not there";
  if (!(own.mask >> own.source & 1)) return "shuffles with a lane that its mask leaves out";
  if (lanes[own.source].mask != own.mask) return "shuffles with a lane that has another mask";
  return nullptr;
}

// Exchanges the numbers of the warps that are complete. Says whether there was one.
bool shuffle(unsigned count, std::string& failure) {
  bool any = false;
  for (unsigned first = 0; first < count; first += kWarp) {
    Thread* const lanes = fibers->threads + first;
    const unsigned there = std::min(kWarp, count - first);
    if (!all_shuffle(lanes, there)) continue;
    any = true;
    float given[kWarp];
    for (unsigned lane = 0; lane < there; ++lane) given[lane] = lanes[lane].value;
    for (unsigned lane = 0; lane < there; ++lane) {
      if (lanes[lane].at != At::kShuffle) continue;
      if (const char* const wrong = fault(lanes, lane, there); wrong != nullptr) {
        failure = named(first + lane) + " " + wrong;
        return false;
      }
      lanes[lane].value = given[lanes[lane].source];
    }
    for (unsigned lane = 0; lane < there; ++lane)
      if (lanes[lane].at == At::kShuffle) lanes[lane].at = At::kWork;
  }
  return any;
}

unsigned number_at(At at, unsigned count) {
  unsigned number = 0;
  for (unsigned i = 0; i < count; ++i) number += fibers->threads[i].at == at;
  return number;
}

// Opens the barrier once all threads that have not returned are there, as GPUs do since Volta.
bool open_barrier(unsigned count) {
  const unsigned there = number_at(At::kBarrier, count);
  if (there == 0 || there + number_at(At::kEnd, count) < count) return false;
  for (unsigned i = 0; i < count; ++i)
    if (fibers->threads[i].at == At::kBarrier) fibers->threads[i].at = At::kWork;
  return true;
}

std::string stuck(unsigned count) {
  return named_block() + " is stuck: " + std::to_string(number_at(At::kBarrier, count)) + " threads at a barrier, " +
         std::to_string(number_at(At::kShuffle, count)) + " at a shuffle, " +
         std::to_string(number_at(At::kEnd, count)) + " returned";
}

std::string take_turns(unsigned count, const Schedule& schedule) {
  std::string failure;
  for (std::uint64_t round = 0;; ++round) {
    if (round == 0 || schedule.order == Order::kShuffled) arrange(schedule, round, count, fibers->order);
    for (unsigned i = 0; i < count; ++i) {
      const unsigned index = fibers->order[i];
      threadIdx = {index, 0, 0};
      if (fibers->threads[index].at == At::kWork) resume(fibers->threads[index]);
      if (fibers->fault != 0) return stopped(index);
    }
    if (shuffle(count, failure) || (failure.empty() && open_barrier(count))) continue;
    if (!failure.empty()) return failure;
    if (number_at(At::kEnd, count) < count) return stuck(count);
    return failure;
  }
}

}  // namespace

void arrange(const Schedule& schedule, std::uint64_t draw, unsigned count, unsigned* places) {
  std::iota(places, places + count, 0u);
  if (schedule.order == Order::kBackward)
    for (unsigned i = 0; i < count; ++i) places[i] = count - 1 - i;
  if (schedule.order == Order::kShuffled)
    for (unsigned i = count; i > 1; --i)
      std::swap(places[i - 1], places[mixed(schedule.seed * 0x9e3779b97f4a7c15u + (draw << 32) + i) % i]);
}

std::string run_block(void (*body)(void**), void** arguments, unsigned count, const Schedule& schedule) {
  set_up();
  fibers->body = body;
  fibers->arguments = arguments;
  for (unsigned i = 0; i < count; ++i) {
    begin_anew(i);
    fibers->threads[i].at = At::kWork;
  }
  fibers->fault = 0;
  const Watch watch;
  std::string failure = take_turns(count, schedule);
  if (!failure.empty()) give_up(count);
  return failure;
}

}  // namespace emulator

namespace emulator {
namespace {

float shuffle_with(unsigned mask, float value, unsigned source) {
  Thread& own = *fibers->current;
  own.mask = mask;
  own.source = source;
  own.value = value;
  leave(At::kShuffle);
  return own.value;
}

}  // namespace
}  // namespace emulator

void __syncthreads() { emulator::leave(emulator::At::kBarrier); }

// Each lane reads from itself, once all are there.
void __syncwarp(unsigned mask) { emulator::shuffle_with(mask, 0.0f, threadIdx.x % emulator::kWarp); }

float __shfl_sync(unsigned mask, float value, int lane) {
  return emulator::shuffle_with(mask, value, static_cast<unsigned>(lane) % emulator::kWarp);
}

float __shfl_xor_sync(unsigned mask, float value, int distance) {
  return emulator::shuffle_with(mask, value, threadIdx.x % emulator::kWarp ^ static_cast<unsigned>(distance));
}

// Lanes from which nobody stands so far down keep their own number.
float __shfl_down_sync(unsigned mask, float value, unsigned distance) {
  const unsigned lane = threadIdx.x % emulator::kWarp, source = lane + distance;
  return emulator::shuffle_with(mask, value, source < emulator::kWarp ? source : lane);
}
