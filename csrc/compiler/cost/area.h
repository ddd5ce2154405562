// What a machine is: area by component, and the power of its crossbars when all of them multiply without a pause.
// Both follow from the hardware description alone; what it does not describe counts as 0.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/hardware.h"

namespace cimq::compiler {

/// Components, in this order. Of `crossbars` crossbars of r rows, with l converted lines (cols, or cols / 2 where pairs
/// are subtracted before):
///   crossbar     crossbars
///   adc          crossbars * adcs_per_crossbar (l where it is not described)
///   dac          crossbars * r drivers
///   sample_hold  crossbars * l
///   digital      crossbars (their shift-and-add)
///   buffer       buffer_bytes (0 where it is not described)
///   bus          crossbars (their share of bus and routers)
///   vector       vector_lanes (0 where it is not described)
enum class AreaPart { kCrossbar, kAdc, kDac, kSampleHold, kDigital, kBuffer, kBus, kVector };
inline constexpr std::size_t kAreaParts = 8;
inline constexpr std::array<const char*, kAreaParts> kAreaPartNames = {"crossbar", "adc",    "dac", "sample_hold",
                                                                       "digital",  "buffer", "bus", "vector"};

struct AreaCost {
  std::array<std::optional<double>, kAreaParts> part_um2;  ///< nullopt: not described
  double total_um2() const;
};

/// Area of a machine with so many crossbars.
AreaCost area(const Hardware& hw, std::int64_t crossbars);

/// Components as in energy.h from mvm on: mvm, adc, dac, digital, buffer, bus.
inline constexpr std::size_t kPowerParts = 6;
inline constexpr std::array<const char*, kPowerParts> kPowerPartNames = {"mvm",     "adc",    "dac",
                                                                         "digital", "buffer", "bus"};

struct PowerCost {
  std::array<std::optional<double>, kPowerParts> part_mw;  ///< nullopt: not described
  double total_mw() const;
};

/// Power while so many full crossbars apply digit after digit: the energies of energy.h over the time of a digit
/// (durations.h). Buffer and bus carry 8-bit inputs and the results of 8-bit weights, a byte each. Dynamic power of
/// what the description has; leakage and everything else (routers, control, vector units) is not in it.
PowerCost busy_power(const Hardware& hw, std::int64_t crossbars);

}  // namespace cimq::compiler
