// What the time of a program is spent on.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace cimq::compiler {

enum class Cause {
  kWrite,    ///< programming crossbars
  kMvm,      ///< reading them, digit by digit
  kAdc,      ///< converters that take longer than that, and the last conversion of an MVM
  kMove,     ///< input vectors and results on the bus
  kDigital,  ///< the vector unit: QUANT, SHADD, REQ, VEC
  kStall,    ///< all else was there, but no space in the buffer
};
inline constexpr std::size_t kCauses = 6;
inline constexpr std::array<const char*, kCauses> kCauseNames = {"write", "mvm", "adc", "move", "digital", "stall"};

/// Picoseconds by cause.
struct CauseTimes {
  std::array<std::int64_t, kCauses> ps{};

  std::int64_t& operator[](Cause cause) { return ps[static_cast<std::size_t>(cause)]; }
  std::int64_t operator[](Cause cause) const { return ps[static_cast<std::size_t>(cause)]; }
  std::int64_t total() const { return std::accumulate(ps.begin(), ps.end(), std::int64_t{0}); }
};

}  // namespace cimq::compiler
