// How long single steps take on a machine, in whole picoseconds. What the machine does not describe takes no time.
#pragma once

#include <cstdint>

#include "common/hardware.h"

namespace cimq::compiler {

/// Lines that are converted of the cell columns [begin, end) of a layer: pairs that are subtracted before count once,
/// with the tile that has their second column.
std::int64_t converted_lines(const Hardware& hw, std::int64_t column_begin, std::int64_t column_end);

/// One input digit on a crossbar. Reading the cells (mvm_time) and converting the lines (ceil(lines / converters) *
/// adc_time) are two stages of a pipeline, with a sample-and-hold between: while a digit is converted, the next one is
/// applied. So D digits, the next MVM's right behind them, occupy the crossbar for D * max(read, convert), and their
/// last code comes min(read, convert) later.
struct DigitTime {
  std::int64_t read_ps = 0;   ///< mvm_time
  std::int64_t wait_ps = 0;   ///< what the converters add to that
  std::int64_t drain_ps = 0;  ///< from the end of the last digit to its last code

  std::int64_t step_ps() const { return read_ps + wait_ps; }
};

/// Of a crossbar with `lines` converted lines; as many converters as lines where the machine does not say.
/// Throws Error beyond 58 bits.
DigitTime digit_time(const Hardware& hw, std::int64_t lines);

/// Moving bytes over the bus, rounded up. Throws Error beyond 58 bits.
std::int64_t bus_time_ps(const Hardware& hw, std::int64_t bytes);

/// So many operations of the vector unit, all of its lanes together; one operation's time where lanes are without
/// limit. Throws Error beyond 58 bits.
std::int64_t vector_time_ps(const Hardware& hw, std::int64_t operations);

}  // namespace cimq::compiler
