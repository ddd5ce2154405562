#include "kernels/cpu/convert/read_columns.h"

#include <algorithm>

#include "kernels/cpu/tile/dispatch.h"

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
  if (plan_.dac_bits == 1) {  // digits are their own squares
    square_sums_.clear();
    for (int r = 0; r < args.row_count; ++r) square_sums_.push_back(args.rows[r].digit_sum);
    return;
  }
  const auto* digits = static_cast<const std::int16_t*>(args.digits);
  const std::int64_t row_length = args.steps * 2;
  const bool proportional = plan_.reads == ReadModel::kProportional;
  if (proportional) squares_.resize(static_cast<std::size_t>(args.row_count * row_length));
  square_sums_.assign(static_cast<std::size_t>(args.row_count), 0);
  std::int16_t* squares = squares_.data();
  for (int r = 0; r < args.row_count; ++r, digits += row_length) {
    if (proportional) {
      for (std::int64_t k = 0; k < row_length; ++k) squares[k] = static_cast<std::int16_t>(digits[k] * digits[k]);
      squares += row_length;
      continue;  // the variances have it all
    }
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < row_length; ++k) sum += std::int32_t{digits[k]} * digits[k];
    square_sums_[static_cast<std::size_t>(r)] = sum;
  }
}

void ReadColumns::run(const TileArgs& args, std::int64_t panel, std::size_t plane, std::int64_t tile) {
  const std::int32_t* noisy = currents(args, panel, plane, tile);
  if (!args.convert) {
    for (int r = 0; r < args.row_count; ++r, noisy += args.width) add_row(args, r, noisy);
    return;
  }
  lo_.assign(static_cast<std::size_t>(args.width), args.lo);
  inv_lsb_.assign(static_cast<std::size_t>(args.width), args.inv_lsb);
  active_kernels().columns({noisy, args.width, args.rows, args.row_count, args.sums, args.negative, lo_.data(),
                            inv_lsb_.data(), args.code_min, args.code_max});
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
    if (plan_.dac_bits > 1) exact.digits = squares_.data();
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
  const bool proportional = plan_.reads == ReadModel::kProportional;
  std::int32_t* currents = currents_.data() + std::ptrdiff_t{row} * args.width;
  const std::int32_t* variances = proportional ? variances_.data() + std::ptrdiff_t{row} * args.width : nullptr;
  const std::int64_t variance = proportional ? 0 : plan_.cells_per_column * square_sums_[static_cast<std::size_t>(row)];
  if (const ColumnNoiseAdder add = active_kernels().noise; add != nullptr) {
    ColumnStream stream{};
    stream.key = key;
    stream.tile = static_cast<std::uint32_t>(tile);
    stream.place = column_place(digit, cells.slice);
    stream.column = column_index(plan_.separate_columns, first_output, cells.negative ? 1 : 0);
    stream.step = plan_.separate_columns ? 2 : 1;
    stream.nodes = noise_.table().nodes().data();
    stream.sample_bits = noise_.sample_bits();
    stream.variances = variances;
    stream.root = static_cast<std::int32_t>(column_root(variance));
    add(stream, currents, args.width);
    return;
  }
  std::uint64_t block = ~std::uint64_t{0};
  PhiloxCounter words{};
  for (int o = 0; o < cells_.panel_outputs(panel); ++o) {
    const std::uint64_t column = column_index(plan_.separate_columns, first_output + o, cells.negative ? 1 : 0);
    if (column >> 2 != block) {
      block = column >> 2;
      words = column_words(key, block, tile, digit, cells.slice);
    }
    currents[o] = static_cast<std::int32_t>(
        currents[o] + noise_.sample(proportional ? variances[o] : variance, words.word[column & 3U]));
  }
}

/// Modulo 2^32, as the tile kernels add up.
void ReadColumns::add_row(const TileArgs& args, int row, const std::int32_t* currents) {
  const TileRow& place = args.rows[row];
  const std::uint32_t sign = (place.negative != 0) != args.negative ? ~0U : 0U;
  std::int32_t* sums = args.sums + std::ptrdiff_t{place.output_row} * args.width;
  for (int o = 0; o < args.width; ++o) {
    const std::uint32_t weighted = static_cast<std::uint32_t>(currents[o]) << place.shift;
    sums[o] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums[o]) + ((weighted ^ sign) - sign));
  }
}

}  // namespace cimq::kernels::cpu
