// Programs a matrix for the CUDA kernels: which numbers they compute with, and cells in the order they read them.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cuda {
namespace {

constexpr std::size_t kAlignment = 16;
constexpr std::size_t kCellAlignment = 128;  // a line of the second-level cache
/// Largest |current - lo|, times the place of its digit, that the bits of a float hold beside 1.5 * 2^23.
constexpr std::int64_t kShiftedLimit = std::int64_t{1} << 22;

std::uint32_t in_every_byte(std::uint32_t byte) { return byte * 0x01010101U; }

}  // namespace

MvmLayer::MvmLayer(const std::vector<MvmProblem>& groups, int chips, Programming programming)
    : plan_(groups.front().plan()), groups_(static_cast<int>(groups.size())), chips_(chips) {
  check(chips >= 1, "crossbar_mvm: chips must be at least 1, got ", chips);
  for (const MvmProblem& group : groups) {
    if (programming == Programming::kOnDevice) break;
    check_weights(group.w, group.outputs * group.inputs, group.options.weight_bits);
  }
  choose();
  set_digits();
  set_converter();
  set_constants(groups);
  if (programming == Programming::kOnHost) program(groups);
}

/// Which of the kernels, and the tiles it sees.
void MvmLayer::choose() {
  digital_ = plan_.collapses;
  const bool reads = plan_.reads != ReadModel::kNone;
  const bool words = plan_.fractional || (!digital_ && plan_.max_level > 127);
  cell_kind_ = reads ? Cells::kReads : words ? Cells::kWords : Cells::kBytes;
  MvmArguments& a = arguments_;
  a.inputs = static_cast<std::int32_t>(plan_.inputs);
  a.outputs = static_cast<std::int32_t>(plan_.outputs);
  a.groups = groups_;
  a.exact = plan_.exact;
  a.act_signed = plan_.act_signed;
  a.slices = digital_ ? 1 : plan_.n_w;
  a.columns = !digital_ && plan_.separate_columns ? 2 : 1;
  // An ideal converter adds up what the tiles give: they are as long as the kernel likes best, unless every tile is
  // read with noise of its own.
  const std::int64_t tile = digital_ || (plan_.ideal && !reads) ? kChunkBytes : plan_.inputs_per_tile;
  a.tile_inputs = static_cast<std::int32_t>(std::min(tile, plan_.inputs));
  a.tiles = static_cast<std::int32_t>(ceil_div(plan_.inputs, std::int64_t{a.tile_inputs}));
  a.tile_bytes = ceil_div(a.tile_inputs, kStepBytes) * kStepBytes;
  a.tile_chunks = ceil_div(a.tile_bytes, kChunkBytes);
  const std::int64_t lines = ceil_div<std::int64_t>(plan_.outputs, outputs_of_warp(cell_kind_)) * kWarpLines;
  const std::int64_t padded = ceil_div<std::int64_t>(lines, kBlockLines) * kBlockLines;
  check(padded <= std::numeric_limits<std::int32_t>::max(), "crossbar_mvm: a CUDA device takes fewer outputs, got ",
        plan_.outputs);
  a.lines = static_cast<std::int32_t>(padded);
  a.matrix_bytes = std::int64_t{a.slices} * a.columns * a.tiles * a.lines * a.tile_bytes;
  const std::size_t sums = sizeof(std::int32_t) * static_cast<std::size_t>(plan_.outputs * groups_);
  cells_ = ceil_div(sums, kCellAlignment) * kCellAlignment;
}

void MvmLayer::set_digits() {
  MvmArguments& a = arguments_;
  const std::uint32_t all = low_mask(plan_.act_bits);
  if (digital_ || plan_.ideal) converter_ = Converter::kNone;
  if (converter_ == Converter::kNone && plan_.reads == ReadModel::kNone) {
    // What is linear in the digits takes the activation as a whole, its sign bit apart.
    a.input_shift = digital_ ? 0 : plan_.input_shift;
    a.weight_shift = digital_ ? 0 : plan_.weight_shift;
    const bool sign_apart = plan_.act_signed && a.input_shift == 0;
    const std::uint32_t top = sign_apart ? std::uint32_t{1} << (plan_.act_bits - 1) : 0U;
    a.flip = in_every_byte(static_cast<std::uint32_t>(a.input_shift));
    if ((all & ~top) != 0) a.digit[a.digits++] = {in_every_byte(all & ~top), 0, 1, 1.0F, 0};
    if (top != 0) a.digit[a.digits++] = {in_every_byte(top), 0, -1, 1.0F, 0};
    return;
  }
  a.input_shift = plan_.input_shift;
  a.weight_shift = plan_.weight_shift;
  a.flip = in_every_byte(static_cast<std::uint32_t>(plan_.input_shift));
  a.digits = plan_.n_x;
  for (int i = 0; i < plan_.n_x; ++i) {
    const int place = i * plan_.dac_bits;
    const std::uint32_t mask = low_mask(plan_.dac_bits) & (all >> place);
    a.digit[i] = {in_every_byte(mask), place, plan_.digit_weights[static_cast<std::size_t>(i)], 1.0F, 0};
  }
}

void MvmLayer::set_converter() {
  if (converter_ == Converter::kNone) {
    for (int s = 0; s < arguments_.slices; ++s) {
      const SlicePlan& slice = plan_.slices[static_cast<std::size_t>(s)];
      arguments_.slice[s] = {0, 1.0F, slice.scale, digital_ ? 1 : static_cast<std::int32_t>(slice.weight)};
    }
    return;
  }
  MvmArguments& a = arguments_;
  a.code_min = plan_.code_min;
  a.code_max = plan_.code_max;
  a.lowest = static_cast<float>(plan_.code_min);
  a.highest = static_cast<float>(plan_.code_max);
  const int last_place = (plan_.n_x - 1) * plan_.dac_bits;
  bool shifted = cell_kind_ == Cells::kBytes && !plan_.by_column();
  for (int s = 0; s < plan_.n_w; ++s) {
    const SlicePlan& slice = plan_.slices[static_cast<std::size_t>(s)];
    const std::int64_t lo = std::int64_t{slice.lo} * plan_.unit();
    a.slice[s] = {plan_.by_column() ? 0 : static_cast<std::int32_t>(lo), slice.inv_lsb, slice.scale,
                  static_cast<std::int32_t>(slice.weight)};
    a.clips = a.clips || (!plan_.by_column() && can_clip(plan_, slice));
    // A power of two does not round a product, unless the factor leaves the normal numbers.
    shifted = shifted && ((plan_.largest_current + std::abs(lo)) << last_place) < kShiftedLimit &&
              std::ldexp(slice.inv_lsb, -last_place) >= std::numeric_limits<float>::min();
  }
  converter_ = shifted ? Converter::kShifted : Converter::kGeneral;
  if (!shifted) return;
  std::uint32_t weights = 0;
  for (int i = 0; i < a.digits; ++i) {
    DigitArguments& digit = a.digit[i];
    digit.mask <<= digit.shift;
    digit.place = digit.shift;
    digit.scale = std::ldexp(1.0F, -digit.shift);
    digit.shift = 0;
    weights += static_cast<std::uint32_t>(digit.weight);
  }
  // The second column of a pair takes away what the first one brings.
  const std::uint32_t times = a.columns == 2 ? 0U : static_cast<std::uint32_t>(a.tiles);
  a.sum_bias = static_cast<std::int32_t>(weights * times * kShiftedBits);
}

std::size_t MvmLayer::append(const void* data, std::size_t bytes) {
  const std::size_t offset = ceil_div(constants_.size(), kAlignment) * kAlignment;
  constants_.resize(offset + bytes);
  if (bytes != 0) std::memcpy(constants_.data() + offset, data, bytes);
  return offset;
}

void MvmLayer::program(const std::vector<MvmProblem>& groups) {
  programmed_.resize(programmed_bytes(chips_));
  std::vector<std::int32_t> weight_sums;
  for (const MvmProblem& group : groups) {
    for (std::int64_t o = 0; o < plan_.outputs; ++o) {
      std::int64_t sum = 0;
      for (std::int64_t k = 0; k < plan_.inputs; ++k) sum += group.w[o * plan_.inputs + k];
      weight_sums.push_back(static_cast<std::int32_t>(sum));  // the plan has bounded it
    }
  }
  std::memcpy(programmed_.data(), weight_sums.data(), weight_sums.size() * sizeof(std::int32_t));
  std::byte* first = programmed_.data() + cells_;
  for (int chip = 0; chip < chips_; ++chip) {
    std::byte* cells = first + static_cast<std::size_t>(chip) * chip_bytes();
    if (chip > 0 && !plan_.varies) {
      std::memcpy(cells, first, chip_bytes());
      continue;
    }
    for (std::size_t g = 0; g < groups.size(); ++g) {
      fill_matrix(groups[g], chip, cells + g * static_cast<std::size_t>(arguments_.matrix_bytes));
    }
  }
}

void MvmLayer::set_constants(const std::vector<MvmProblem>& groups) {
  std::vector<float> lo_constants;
  ColumnRanges ranges;
  const auto add = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (const MvmProblem& group : groups) {
    // Groups differ in the ranges of their columns and in nothing else.
    const std::optional<MvmPlan> own = plan_.by_column() ? std::optional(group.plan()) : std::nullopt;
    const MvmPlan& plan = own ? *own : plan_;
    for (std::int64_t o = 0; o < plan.outputs; ++o) lo_constants.push_back(plan.lo_constant(o));
    for (const std::int32_t lo : plan.column_ranges.lo) ranges.lo.push_back(lo * plan.unit());
    add(ranges.lsb, plan.column_ranges.lsb);
    add(ranges.inv_lsb, plan.column_ranges.inv_lsb);
    add(ranges.scale, plan.column_ranges.scale);
  }
  lo_constants_ = append(lo_constants);
  column_lo_ = append(ranges.lo);
  column_inv_lsb_ = append(ranges.inv_lsb);
  column_scale_ = append(ranges.scale);
  column_lsb_ = append(ranges.lsb);
  if (plan_.reads == ReadModel::kNone) return;
  const ColumnNoise noise(groups.front().hardware, plan_, groups.front().options);
  read_nodes_ = append(noise.table().nodes());
  read_sample_bits_ = noise.sample_bits();
}

void MvmLayer::fill_matrix(const MvmProblem& problem, int chip, std::byte* plane) const {
  MvmOptions options = problem.options;
  options.chip += static_cast<std::uint32_t>(chip);
  std::optional<cpu::ProgrammedCells> programmed;
  if (plan_.fractional) programmed.emplace(problem.hardware, plan_, options, problem.w);
  const std::int64_t plane_bytes = std::int64_t{arguments_.tiles} * arguments_.lines * arguments_.tile_bytes;
  std::vector<std::int32_t> line(static_cast<std::size_t>(plan_.inputs));
  for (int s = 0; s < arguments_.slices; ++s) {
    for (int column = 0; column < arguments_.columns; ++column, plane += plane_bytes) {
      const bool pair = plan_.mapping != Mapping::kOffset && arguments_.columns == 1;
      const std::int16_t* first = programmed ? programmed->plane(s, column) : nullptr;
      const std::int16_t* second = programmed && pair ? programmed->plane(s, 1) : nullptr;
      const auto variance = [&](std::int64_t index) {
        if (constant_variance() != 0) return constant_variance();
        return cell_variance(first[index], plan_.read_shift) +
               (pair ? cell_variance(second[index], plan_.read_shift) : 0);
      };
      for (std::int64_t o = 0; o < plan_.outputs; ++o) {
        for (std::int64_t k = 0; k < plan_.inputs; ++k) {
          const std::int64_t index = o * plan_.inputs + k;
          const std::int32_t w = problem.w[index];
          std::int32_t& cell = line[static_cast<std::size_t>(k)];
          if (digital_) {
            cell = w;
          } else if (programmed) {
            cell = first[index] - (pair ? second[index] : plan_.cancelled_base());
          } else {
            cell = cell_level(plan_, w, s, column) - (pair ? cell_level(plan_, w, s, 1) : 0);
          }
        }
        fill_line(plane, o, 0, line.data());
        if (cell_kind_ != Cells::kReads) continue;
        for (std::int64_t k = 0; k < plan_.inputs; ++k) {
          line[static_cast<std::size_t>(k)] = variance(o * plan_.inputs + k);
        }
        fill_line(plane, o, 2, line.data());
      }
    }
  }
}

void MvmLayer::fill_line(std::byte* plane, std::int64_t output, int part, const std::int32_t* cells) const {
  const int of_warp = outputs_of_warp(cell_kind_);
  const bool words = cell_kind_ != Cells::kBytes;
  const std::int64_t line = output / of_warp * kWarpLines + part * of_warp + output % of_warp;
  const auto tile_bytes = static_cast<std::int64_t>(arguments_.tile_bytes);
  for (std::int64_t k = 0; k < plan_.inputs; ++k) {
    const std::int64_t tile = k / arguments_.tile_inputs;
    std::byte* at = plane + (tile * arguments_.lines + line) * tile_bytes + k % arguments_.tile_inputs;
    const auto bits = static_cast<std::uint32_t>(cells[k]);
    *at = static_cast<std::byte>(words ? bits >> 8 : bits);
    if (words) at[of_warp * tile_bytes] = static_cast<std::byte>(bits);
  }
}

/// Of every cell of a used row, where noise does not depend on the conductance; else 0.
std::int32_t MvmLayer::constant_variance() const {
  return plan_.reads == ReadModel::kConstant ? static_cast<std::int32_t>(plan_.cells_per_column) : 0;
}

MvmArguments MvmLayer::arguments(const DeviceImage& image, std::int64_t rows, void* y, const Accesses& accesses) const {
  MvmArguments a = arguments_;
  a.y = y;
  a.rows = rows;
  a.weight_sums = reinterpret_cast<const std::int32_t*>(image.programmed);
  a.cells = reinterpret_cast<const std::uint8_t*>(image.programmed + cells_);
  a.lo_constants = reinterpret_cast<const float*>(image.constants + lo_constants_);
  if (plan_.by_column() && converter_ != Converter::kNone) {
    a.column_lo = reinterpret_cast<const std::int32_t*>(image.constants + column_lo_);
    a.column_inv_lsb = reinterpret_cast<const float*>(image.constants + column_inv_lsb_);
    a.column_scale = reinterpret_cast<const float*>(image.constants + column_scale_);
  }
  if (cell_kind_ == Cells::kReads) {
    const std::int32_t digit = static_cast<std::int32_t>(low_mask(std::min(plan_.dac_bits, plan_.act_bits)));
    a.read = {reinterpret_cast<const std::int32_t*>(image.constants + read_nodes_),
              accesses.seed,
              accesses.first,
              accesses.first_output,
              image.first_chip,
              accesses.layer,
              read_sample_bits_,
              digit > 1,
              digit * digit > 255};
  }
  return a;
}

const double* MvmLayer::column_lsb(const DeviceImage& image) const {
  return plan_.by_column() ? reinterpret_cast<const double*>(image.constants + column_lsb_) : nullptr;
}

PackArguments MvmLayer::packing(const std::int8_t* w, const std::int16_t* conductances) const {
  const bool pair = plan_.mapping != Mapping::kOffset && arguments_.columns == 1;
  return {w,
          conductances,
          plan_.mapping,
          plan_.cell_bits,
          plan_.weight_bits,
          plan_.polarities(),
          plan_.cancelled_base(),
          digital_,
          pair,
          cell_kind_,
          constant_variance(),
          plan_.read_shift};
}

MatrixArguments MvmLayer::matrix(const std::uint8_t* x) const {
  const MvmArguments& a = arguments_;
  return {x, reinterpret_cast<std::uintptr_t>(x) % kAlignment == 0 && a.inputs % 16 == 0 &&
                 (a.tiles == 1 || a.tile_inputs % 16 == 0)};
}

}  // namespace cimq::kernels::cuda
