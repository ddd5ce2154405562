// Barriers, and the functions in which the lanes of a warp exchange values.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

#include "common/error.h"
#include "emulation/block.h"

namespace cimq::emulation {

/// The value that `lane` brought to a meeting.
template <typename T>
T value_of(const Block::LaneValues& values, int lane) {
  T value;
  std::memcpy(&value, values[static_cast<std::size_t>(lane)].data(), sizeof(T));
  return value;
}

/// A shuffle in which the calling lane reads that of `source`; itself where the source is outside its segment.
template <typename T>
T shuffle(unsigned mask, T value, int source, bool inside, const char* what) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  Block& block = running_block();
  const Block::LaneValues& values = block.meet(mask, &value, sizeof(T), what);
  if (!inside) return value;
  if ((mask >> static_cast<unsigned>(source) & 1U) == 0) {
    block.fault(message("thread ", block.current().id, " reads lane ", source, " in ", what, ", which the mask 0x",
                        std::hex, mask, " leaves out"));
  }
  return value_of<T>(values, source);
}

inline int lane_of_current() { return running_block().current().id % kWarpSize; }

}  // namespace cimq::emulation

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  cimq::emulation::running_block().barrier(where);
}
inline int __syncthreads_count(int value, std::source_location where = std::source_location::current()) {
  return cimq::emulation::running_block().barrier_count(value != 0, where);
}
inline int __syncthreads_or(int value, std::source_location where = std::source_location::current()) {
  return __syncthreads_count(value, where) != 0 ? 1 : 0;
}
inline int __syncthreads_and(int value, std::source_location where = std::source_location::current()) {
  return __syncthreads_count(value == 0 ? 1 : 0, where) == 0 ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffU) { cimq::emulation::running_block().sync_warp(mask); }
// One thread at a time runs here, so that all see memory in one order.
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize) {
  const int first = cimq::emulation::lane_of_current() / width * width;
  return cimq::emulation::shuffle(mask, value, first + (source & (width - 1)), true, "__shfl_sync");
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = cimq::emulation::lane_of_current();
  const int source = lane - static_cast<int>(delta);
  return cimq::emulation::shuffle(mask, value, source, source >= lane / width * width, "__shfl_up_sync");
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const int lane = cimq::emulation::lane_of_current();
  const int source = lane + static_cast<int>(delta);
  return cimq::emulation::shuffle(mask, value, source, source < (lane / width + 1) * width, "__shfl_down_sync");
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize) {
  const int lane = cimq::emulation::lane_of_current();
  const int source = lane ^ bits;
  return cimq::emulation::shuffle(mask, value, source, source < (lane / width + 1) * width, "__shfl_xor_sync");
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const auto& values = cimq::emulation::running_block().meet(mask, &predicate, sizeof(predicate), "__ballot_sync");
  unsigned result = 0;
  for (unsigned lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    if (cimq::emulation::value_of<int>(values, lane) != 0) result |= 1U << static_cast<unsigned>(lane);
  }
  return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0 ? 1 : 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask ? 1 : 0; }

namespace cimq::emulation {

template <typename T, typename Combine>
T reduce(unsigned mask, T value, const char* what, const Combine& combine) {
  const Block::LaneValues& values = running_block().meet(mask, &value, sizeof(T), what);
  T result = value_of<T>(values, std::countr_zero(mask));
  for (unsigned lanes = mask & (mask - 1); lanes != 0; lanes &= lanes - 1) {
    result = combine(result, value_of<T>(values, std::countr_zero(lanes)));
  }
  return result;
}

}  // namespace cimq::emulation

// Of ints and unsigned, as the device has them (sm_80).
inline int __reduce_add_sync(unsigned mask, int value) {
  return cimq::emulation::reduce(mask, value, "__reduce_add_sync", [](int a, int b) {
    return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  });
}
inline int __reduce_max_sync(unsigned mask, int value) {
  return cimq::emulation::reduce(mask, value, "__reduce_max_sync", [](int a, int b) { return a < b ? b : a; });
}
inline int __reduce_min_sync(unsigned mask, int value) {
  return cimq::emulation::reduce(mask, value, "__reduce_min_sync", [](int a, int b) { return b < a ? b : a; });
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return cimq::emulation::reduce(mask, value, "__reduce_or_sync", [](unsigned a, unsigned b) { return a | b; });
}
