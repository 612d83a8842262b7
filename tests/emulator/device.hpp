// device.cu on a host: the same names, without PTX.
//
// The approximate instructions are wrong by as much as theirs are documented to be: by which sign is drawn from
// a seed and the operand, so that the same operand always gives the same result.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda.hpp"

constexpr int kWidth = 8;
constexpr unsigned kWholeWarp = 0xffffffffu;

using Packed = uint4;

namespace emulator {

extern std::uint64_t approximation_seed;  // 0: the approximate instructions are exact

inline float widened(std::uint16_t bits) {
  _Float16 half;
  std::memcpy(&half, &bits, sizeof half);
  return static_cast<float>(half);
}

inline unsigned narrowed(float number) {
  const _Float16 half = static_cast<_Float16>(number);
  std::uint16_t bits;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

inline std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A subnormal number is a zero to these instructions (.ftz).
inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

inline float approximate(double exact, float operand, unsigned instruction) {
  if (approximation_seed != 0) {
    std::uint32_t bits;
    std::memcpy(&bits, &operand, sizeof bits);
    const std::uint64_t drawn = mixed(approximation_seed + (std::uint64_t{instruction} << 32) + bits);
    exact *= drawn & 1 ? 1.0 + 0x1p-22 : 1.0 - 0x1p-22;
  }
  return flushed(static_cast<float>(exact));
}

}  // namespace emulator

inline void widen_pair(unsigned pair, float& low, float& high) {
  low = emulator::widened(static_cast<std::uint16_t>(pair));
  high = emulator::widened(static_cast<std::uint16_t>(pair >> 16));
}

inline unsigned narrow_pair(float low, float high) {
  return emulator::narrowed(low) | emulator::narrowed(high) << 16;
}

inline float power_of_two(float x) {
  const float operand = emulator::flushed(x);
  return operand == 0.0f ? 1.0f : emulator::approximate(std::exp2(double{operand}), operand, 1);
}

inline float reciprocal(float x) {
  const float operand = emulator::flushed(x);
  return emulator::approximate(1.0 / double{operand}, operand, 2);
}

inline float reciprocal_root(float x) {
  const float operand = emulator::flushed(x);
  return emulator::approximate(1.0 / std::sqrt(double{operand}), operand, 3);
}
