#include "runtime/interpreter/layer_cells.h"

#include <cstddef>

#include "common/bits.h"
#include "common/error.h"
#include "common/mapping.h"
#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/formula/adc.h"

namespace cimq::runtime {
namespace {

using compiler::isa::Region;

kernels::MvmOptions options_of(const CrossbarTensors& tensors, std::int64_t first_output) {
  kernels::MvmOptions options = tensors.options;
  options.first_output += first_output;
  return options;
}

}  // namespace

LayerCells::LayerCells(const Hardware& hardware, const compiler::LayerTiling& tiling, const CrossbarTensors& tensors,
                       std::int64_t group, std::int64_t groups)
    : columns_(tiling.columns) {
  const std::int64_t outputs = tensors.outputs / groups;
  const std::int64_t inputs = static_cast<std::int64_t>(tensors.weight.size()) / tensors.outputs;
  const kernels::MvmOptions options = options_of(tensors, group * outputs);
  plan_ = kernels::make_mvm_plan(hardware, outputs, inputs, options);
  const auto begin = tensors.weight.begin() + group * outputs * inputs;
  weight_.assign(begin, begin + outputs * inputs);
  kernels::check_weights(weight_.data(), outputs * inputs, plan_.weight_bits);
  for (std::int64_t o = 0; o < outputs; ++o) {
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < inputs; ++k) sum += weight_[static_cast<std::size_t>(o * inputs + k)];
    weight_sums_.push_back(sum);
  }
  if (plan_.fractional) {
    conductances_ = kernels::cpu::ProgrammedCells(hardware, plan_, options, weight_.data()).values();
  }
  if (plan_.reads != kernels::ReadModel::kNone) noise_.emplace(hardware, plan_, options);
  // An ideal converter without noise adds nothing that would not add up over tiles.
  const bool adds_up = plan_.ideal && !noise_;
  joint_ = !adds_up && column_polarities(plan_.mapping) == 2 && !plan_.separate_columns;
  check(!joint_ || tiling.column_tiles == 1 || tiling.array_columns % 2 == 0,
        "the two columns of a pair are converted together, but a crossbar of ", tiling.array_columns,
        " columns holds one of them");
  check(adds_up || row_polarities(plan_.mapping) == 1 || tiling.row_tiles == 1 || tiling.array_rows % 2 == 0,
        "the two rows of an input are driven together, but a crossbar of ", tiling.array_rows,
        " rows holds one of them");
}

LayerCells::Column LayerCells::column_of(std::int64_t column) const {
  const int polarities = column_polarities(plan_.mapping);
  const std::int64_t slice = column / polarities;
  const bool reference = reference_columns(plan_.mapping) != 0 && column == columns_ - 1;
  return {slice / plan_.n_w, static_cast<int>(slice % plan_.n_w), static_cast<int>(column % polarities), reference};
}

TileCells LayerCells::program(const Region& region) const {
  TileCells tile{region, {}};
  const int row_pair = row_polarities(plan_.mapping);
  tile.values.reserve(
      static_cast<std::size_t>((region.row_end - region.row_begin) * (region.column_end - region.column_begin)));
  for (std::int64_t r = region.row_begin; r < region.row_end; ++r) {
    const std::int64_t k = r / row_pair;
    for (std::int64_t c = region.column_begin; c < region.column_end; ++c) {
      const Column column = column_of(c);
      if (column.reference) {
        tile.values.push_back(1);  // counts what is applied
        continue;
      }
      const int polarity = row_pair == 2 ? static_cast<int>(r % 2) : column.polarity;
      const std::int64_t cell = column.output * plan_.inputs + k;
      const std::int64_t plane = column.slice * plan_.polarities() + polarity;
      tile.values.push_back(plan_.fractional
                                ? conductances_[static_cast<std::size_t>(plane * plan_.outputs * plan_.inputs + cell)]
                                : static_cast<std::int16_t>(kernels::cell_level(
                                      plan_, weight_[static_cast<std::size_t>(cell)], column.slice, polarity)));
    }
  }
  return tile;
}

/// What the drivers apply of an activation: a digit of its bits, or of its value shifted to be non-negative.
std::uint32_t LayerCells::digit(std::uint8_t raw, int number) const {
  const std::int32_t shifted = activation_value(raw, plan_.act_signed) + plan_.input_shift;
  return digit_of(static_cast<std::uint32_t>(shifted) & low_mask(plan_.act_bits), number, plan_.dac_bits);
}

LayerCells::Currents LayerCells::currents(const TileCells& tile, const AppliedVector& vector, int digit_number) const {
  const Region& region = tile.region;
  const auto columns = static_cast<std::size_t>(region.column_end - region.column_begin);
  const int row_pair = row_polarities(plan_.mapping);
  Currents result;
  result.values.resize(columns);
  if (noise_) result.variances.resize(columns);
  const std::int16_t* cell = tile.values.data();
  std::int64_t applied = 0;
  for (std::int64_t r = region.row_begin; r < region.row_end; ++r, cell += columns) {
    const std::int64_t value = digit(vector.x[static_cast<std::size_t>(r / row_pair)], digit_number);
    if (value == 0) continue;
    applied += value;
    const std::int64_t driven = row_pair == 2 && r % 2 == 1 ? -value : value;
    for (std::size_t c = 0; c < columns; ++c) result.values[c] += driven * cell[c];
    if (!noise_) continue;
    const bool constant = plan_.reads == kernels::ReadModel::kConstant;
    for (std::size_t c = 0; c < columns; ++c) {
      result.variances[c] += value * value * (constant ? 1 : kernels::cell_variance(cell[c], plan_.read_shift));
    }
  }
  // What level 0 conducts is taken away with the reference column's current.
  if (plan_.cancelled_base() == 0) return result;
  for (std::size_t c = 0; c < columns; ++c) {
    if (!column_of(region.column_begin + static_cast<std::int64_t>(c)).reference) {
      result.values[c] -= applied * plan_.cancelled_base();
    }
  }
  return result;
}

std::int64_t LayerCells::code(const Column& column, std::int64_t current, std::int64_t variance,
                              const AppliedVector& vector, std::int64_t row_tile, int digit_number) const {
  if (noise_) {
    const std::uint64_t number =
        kernels::column_index(plan_.separate_columns, noise_->first_output() + column.output, column.polarity);
    const PhiloxCounter words =
        kernels::column_words(noise_->key(vector.access), number >> 2, row_tile, digit_number, column.slice);
    current += noise_->sample(variance, words.word[number & 3U]);
  }
  if (plan_.ideal) return current;
  const kernels::SlicePlan range = plan_.range(column.slice, column.output);
  return kernels::adc_code(static_cast<std::int32_t>(current - range.lo * plan_.unit()), range.inv_lsb, plan_.code_min,
                           plan_.code_max);
}

void LayerCells::multiply(const TileCells& tile, std::int64_t row_tile, const AppliedVector& vector, int begin, int end,
                          std::span<std::int64_t> sums) const {
  const Region& region = tile.region;
  for (int d = begin; d < end; ++d) {
    const std::int64_t weight = plan_.digit_weights[static_cast<std::size_t>(d)];
    const Currents currents = this->currents(tile, vector, d);
    for (std::int64_t c = region.column_begin; c < region.column_end; ++c) {
      const Column column = column_of(c);
      const auto at = static_cast<std::size_t>(c - region.column_begin);
      std::int64_t current = currents.values[at];
      std::int64_t& sum = sums[static_cast<std::size_t>(c)];
      if (column.reference) {
        sum += weight * current;
        continue;
      }
      std::int64_t variance = noise_ ? currents.variances[at] : 0;
      if (joint_) {
        if (column.polarity == 1) continue;  // converted with the one before it
        current -= currents.values[at + 1];
        if (noise_) variance += currents.variances[at + 1];
      }
      sum += weight * code(column, current, variance, vector, row_tile, d);
    }
  }
}

std::int64_t LayerCells::slice_sum(std::span<const std::int64_t> sums, std::int64_t output, int slice) const {
  const int pair = column_polarities(plan_.mapping);
  const auto column = static_cast<std::size_t>(pair * (output * plan_.n_w + slice));
  return pair == 2 ? sums[column] - sums[column + 1] : sums[column];
}

std::int64_t LayerCells::correction(std::span<const std::int64_t> sums, std::int64_t output) const {
  const std::int64_t applied = plan_.weight_shift != 0 ? sums[static_cast<std::size_t>(columns_ - 1)] : 0;
  return -plan_.input_shift * weight_sums_[static_cast<std::size_t>(output)] - plan_.weight_shift * applied;
}

void LayerCells::add_up(std::span<const std::int64_t> sums, std::span<std::int32_t> y) const {
  for (std::int64_t o = 0; o < plan_.outputs; ++o) {
    std::int64_t sum = correction(sums, o);
    for (int s = 0; s < plan_.n_w; ++s) {
      sum += plan_.slices[static_cast<std::size_t>(s)].weight * slice_sum(sums, o, s);
    }
    y[static_cast<std::size_t>(o)] = static_cast<std::int32_t>(sum);
  }
}

void LayerCells::add_up(std::span<const std::int64_t> sums, std::span<float> y) const {
  for (std::int64_t o = 0; o < plan_.outputs; ++o) {
    float sum = 0.0F;
    for (int s = 0; s < plan_.n_w; ++s) {
      sum += static_cast<float>(slice_sum(sums, o, s)) * plan_.range(s, o).scale;
    }
    sum += plan_.lo_constant(o);
    y[static_cast<std::size_t>(o)] = sum + static_cast<float>(correction(sums, o));
  }
}

}  // namespace cimq::runtime
