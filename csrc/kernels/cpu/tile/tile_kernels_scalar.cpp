// Portable tile kernel: what every other one must equal.
#include <array>
#include <bit>
#include <cstddef>

#include "kernels/cpu/tile/column_converter.h"
#include "kernels/cpu/tile/tile_kernels.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cpu {
namespace {

using Currents = std::array<std::uint32_t, kPanelWidth>;

/// Converts the currents of one row and adds the codes to the sums of its output row. Sums of the folded modes may wrap
/// (the caller's arithmetic is modulo 2^32): unsigned, where that is defined.
void finish_row(const TileArgs& args, const TileRow& row, const Currents& current) {
  std::int32_t* sums = args.sums + std::ptrdiff_t{row.output_row} * args.width;
  const bool negative = (row.negative != 0) != args.negative;
  for (int o = 0; o < args.width; ++o) {
    auto code = current[static_cast<std::size_t>(o)];
    if (args.convert) {
      code = static_cast<std::uint32_t>(
          adc_code(static_cast<std::int32_t>(code), args.inv_lsb, args.code_min, args.code_max));
    }
    const std::uint32_t weighted = code << row.shift;
    sums[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[o]) + (negative ? 0U - weighted : weighted));
  }
}

/// Digit is uint8 or int16, Cell int8 or int16; kGroup of them make a step.
template <typename Digit, typename Cell, int kGroup>
void run_tile(const TileArgs& args) {
  const auto* cells = static_cast<const Cell*>(args.cells);
  const auto* digits = static_cast<const Digit*>(args.digits);
  for (int r = 0; r < args.row_count; ++r, digits += args.steps * kGroup) {
    const TileRow& row = args.rows[r];
    Currents current;
    current.fill(static_cast<std::uint32_t>(args.cell_bias * row.digit_sum - args.lo));
    for (std::int64_t step = 0; step < args.steps; ++step) {
      const Cell* cell = cells + step * args.width * kGroup;
      const Digit* digit = digits + step * kGroup;
      for (int o = 0; o < args.width; ++o, cell += kGroup) {
        std::int32_t sum = 0;
        for (int j = 0; j < kGroup; ++j) sum += std::int32_t{digit[j]} * cell[j];
        current[static_cast<std::size_t>(o)] += static_cast<std::uint32_t>(sum);
      }
    }
    finish_row(args, row, current);
  }
}

void run_bits(const TileArgs& args) {
  const auto* digits = static_cast<const std::uint32_t*>(args.digits);
  const int lines = args.pairs ? 2 : 1;
  for (int r = 0; r < args.row_count; ++r, digits += args.steps) {
    Currents current;
    current.fill(static_cast<std::uint32_t>(-args.lo));
    const auto* cell = static_cast<const std::uint32_t*>(args.cells);
    for (std::int64_t step = 0; step < args.steps; ++step, cell += lines * args.width) {
      for (int o = 0; o < args.width; ++o) {
        int sum = std::popcount(digits[step] & cell[o]);
        if (args.pairs) sum -= std::popcount(digits[step] & cell[args.width + o]);
        current[static_cast<std::size_t>(o)] += static_cast<std::uint32_t>(sum);
      }
    }
    finish_row(args, args.rows[r], current);
  }
}

}  // namespace

TileKernels scalar_kernels() {
  return {.bytes = run_tile<std::uint8_t, std::int8_t, 4>,
          .words = run_tile<std::int16_t, std::int16_t, 2>,
          .bits = run_bits,
          .columns = convert_columns};
}

}  // namespace cimq::kernels::cpu
