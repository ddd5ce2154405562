#include "kernels/cpu/convert/read_columns.h"

#include <algorithm>

#include "kernels/formula/adc.h"

namespace cimq::kernels::cpu {

ReadColumns::ReadColumns(const MvmPlan& plan, const PackedCells& cells, const ColumnNoise& noise, TileKernel kernel)
    : plan_(plan), cells_(cells), noise_(noise), kernel_(kernel) {}

void ReadColumns::begin_block(std::uint64_t first_access, std::int64_t rows) {
  keys_.clear();
  for (std::int64_t row = 0; row < rows; ++row) {
    keys_.push_back(noise_.key(first_access + static_cast<std::uint64_t>(row)));
  }
}

void ReadColumns::square_digits(const TileArgs& args) {
  const auto* digits = static_cast<const std::int16_t*>(args.digits);
  const std::int64_t row_length = args.steps * 2;
  squares_.resize(static_cast<std::size_t>(args.row_count * row_length));
  square_sums_.assign(static_cast<std::size_t>(args.row_count), 0);
  for (std::int64_t j = 0; j < args.row_count * row_length; ++j) {
    const std::int32_t square = std::int32_t{digits[j]} * digits[j];
    squares_[static_cast<std::size_t>(j)] = static_cast<std::int16_t>(square);  // read by proportional noise only
    square_sums_[static_cast<std::size_t>(j / row_length)] += square;
  }
}

void ReadColumns::run(const TileArgs& args, std::int64_t panel, std::size_t plane, std::int64_t tile) {
  currents(args, panel, plane, tile);
  for (int r = 0; r < args.row_count; ++r) convert_row(args, r, panel);
}

const std::int32_t* ReadColumns::currents(const TileArgs& args, std::int64_t panel, std::size_t plane,
                                          std::int64_t tile) {
  if (args.row_count == 0) return currents_.data();
  rows_.clear();
  for (int r = 0; r < args.row_count; ++r) rows_.push_back({r, 0, 0, args.rows[r].digit_sum});
  const auto size = static_cast<std::size_t>(args.row_count) * static_cast<std::size_t>(args.width);
  TileArgs exact = args;
  exact.rows = rows_.data();
  exact.convert = false;
  exact.negative = false;
  exact.lo = 0;
  currents_.assign(size, 0);
  exact.sums = currents_.data();
  kernel_(exact);
  square_digits(args);
  if (plan_.reads == ReadModel::kProportional) {
    variances_.assign(size, 0);
    exact.sums = variances_.data();
    exact.digits = squares_.data();
    exact.cells = cells_.tile(panel, cells_.variance_plane(plane), tile);
    kernel_(exact);
  }
  for (int r = 0; r < args.row_count; ++r) add_noise(args, r, panel, plane, tile);
  return currents_.data();
}

void ReadColumns::add_noise(const TileArgs& args, int row, std::int64_t panel, std::size_t plane, std::int64_t tile) {
  const TileRow& place = args.rows[row];
  const CellPlane& cells = cells_.planes()[plane];
  const PhiloxCounter& key = keys_[static_cast<std::size_t>(place.output_row)];
  const int digit = place.shift / plan_.dac_bits;
  const std::int64_t first_output = noise_.first_output() + panel * kPanelWidth;
  std::uint64_t block = ~std::uint64_t{0};
  PhiloxCounter words{};
  for (int o = 0; o < cells_.panel_outputs(panel); ++o) {
    const std::uint64_t column = column_index(plan_.separate_columns, first_output + o, cells.negative ? 1 : 0);
    if (column >> 2 != block) {
      block = column >> 2;
      words = column_words(key, block, tile, digit, cells.slice);
    }
    const auto index = static_cast<std::size_t>(std::ptrdiff_t{row} * args.width + o);
    const std::int64_t variance = plan_.reads == ReadModel::kProportional
                                      ? std::int64_t{variances_[index]}
                                      : plan_.cells_per_column * square_sums_[static_cast<std::size_t>(row)];
    currents_[index] = static_cast<std::int32_t>(currents_[index] + noise_.sample(variance, words.word[column & 3U]));
  }
}

void ReadColumns::convert_row(const TileArgs& args, int row, std::int64_t panel) {
  const TileRow& place = args.rows[row];
  const bool negative = (place.negative != 0) != args.negative;
  std::int32_t* sums = args.sums + std::ptrdiff_t{place.output_row} * args.width;
  const std::int32_t* noisy = currents_.data() + std::ptrdiff_t{row} * args.width;
  for (int o = 0; o < cells_.panel_outputs(panel); ++o) {
    const std::int32_t code =
        args.convert ? adc_code(noisy[o] - args.lo, args.inv_lsb, args.code_min, args.code_max) : noisy[o];
    // Modulo 2^32, as the tile kernels add up.
    const std::uint32_t weighted = static_cast<std::uint32_t>(code) << place.shift;
    sums[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[o]) + (negative ? 0U - weighted : weighted));
  }
}

}  // namespace cimq::kernels::cpu
