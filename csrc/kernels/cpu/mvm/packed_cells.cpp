#include "kernels/cpu/mvm/packed_cells.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "common/rounding.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/cpu/tile/dispatch.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/noise/read_noise.h"

namespace cimq::kernels::cpu {
namespace {

/// Inputs added up in int32 before they move to int64: 256 * 255 * 32767 < 2^31.
constexpr std::int64_t kIdealTileInputs = 256;
/// Inputs of the digital product that are read against one block of weights, so that both stay in the first cache.
constexpr std::int64_t kDigitalTileInputs = 512;
/// Cells from which on a thread is worth its start.
constexpr std::int64_t kValuesOfThread = 1 << 15;

/// What a plane stores for a weight whose cells are exactly their levels, for every int8 weight (by its bits).
using StoredValues = std::array<std::int32_t, 256>;

StoredValues stored_values(const MvmPlan& plan, const CellPlane& plane, MvmMode mode, std::int32_t cell_bias) {
  StoredValues stored{};
  const std::int32_t top = largest_weight(plan.weight_bits);
  for (std::int32_t w = -top; w <= top; ++w) {
    std::int32_t value = w;
    if (mode != MvmMode::kDigital) {
      value = cell_level(plan, w, plane.slice, plane.negative ? 1 : 0);
      if (plan.mapping != Mapping::kOffset && !plan.separate_columns) value -= cell_level(plan, w, plane.slice, 1);
    }
    stored[static_cast<std::uint8_t>(w)] = value - cell_bias;
  }
  return stored;
}

/// One plane, [outputs, inputs], as a converter sees it: conductances in 1/256 level, of a column or the difference of
/// a pair; or the variances of their read noise.
std::vector<std::int16_t> plane_values(const MvmPlan& plan, const ProgrammedCells& cells, const CellPlane& plane) {
  const auto count = static_cast<std::size_t>(plan.outputs * plan.inputs);
  const std::int16_t* first = cells.plane(plane.slice, plane.negative ? 1 : 0);
  const bool pair = plan.mapping != Mapping::kOffset && !plan.separate_columns;
  const std::int16_t* second = pair ? cells.plane(plane.slice, 1) : nullptr;
  const std::int32_t base = plan.cancelled_base();
  std::vector<std::int16_t> values(count);
  parallel_for(static_cast<std::int64_t>(count), kValuesOfThread, [&](std::int64_t begin, std::int64_t end) {
    for (auto index = static_cast<std::size_t>(begin); index < static_cast<std::size_t>(end); ++index) {
      std::int32_t value = 0;
      if (plane.variance) {
        value = cell_variance(first[index], plan.read_shift);
        if (pair) value += cell_variance(second[index], plan.read_shift);
      } else {
        value = first[index] - (pair ? second[index] : base);
      }
      values[index] = static_cast<std::int16_t>(value);
    }
  });
  return values;
}

}  // namespace

TileKernel kernel_of(const TileKernels& kernels, CellFormat format) {
  switch (format) {
    case CellFormat::kWords:
      return kernels.words;
    case CellFormat::kBits:
      return kernels.bits;
    case CellFormat::kBytes:
      break;
  }
  return kernels.bytes;
}

PackedCells::PackedCells(const MvmPlan& plan) : outputs_(plan.outputs), inputs_(plan.inputs) {
  choose_mode(plan);
  steps_ = (tiles_ - 1) * steps_of_tile(0) + steps_of_tile(tiles_ - 1);
  const std::int64_t padded_outputs = ceil_div<std::int64_t>(outputs_, kLaneWidth) * kLaneWidth;
  bytes_ = static_cast<std::int64_t>(planes_.size()) * steps_ * lines_ * padded_outputs * 4;
}

std::int64_t PackedCells::bytes_to_make(const Hardware& hardware, const MvmPlan& plan) {
  const PackedCells layout(plan);
  const std::int64_t flags = layout.panels() * layout.tiles_ * static_cast<std::int64_t>(layout.planes_.size());
  std::int64_t bytes = layout.bytes_ + kMatrixReadsBeyond + flags + plan.outputs * 8;
  if (plan.fractional) {
    // Conductances of all slices, those of one plane once more, and for wires a tile's index and two sums.
    bytes += plan.outputs * plan.inputs * (2 * plan.n_w * plan.polarities() + 2);
    const std::int64_t rows = std::min<std::int64_t>(hardware.rows, plan.rows_needed);
    if (IrDrop::of(hardware).any()) bytes += rows * std::min<std::int64_t>(hardware.cols, plan.columns) * 24;
  }
  return bytes;
}

PackedCells::PackedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options, const std::int8_t* w)
    : PackedCells(plan) {
  const auto allocated = static_cast<std::size_t>(bytes_ + kMatrixReadsBeyond);
  data_.reset(new (std::align_val_t{64}) std::byte[allocated]);
  std::memset(data_.get(), 0, allocated);
  any_cell_.assign(static_cast<std::size_t>(panels() * tiles_) * planes_.size(), cell_bias_ != 0 ? 1 : 0);

  std::optional<ProgrammedCells> programmed;
  if (plan.fractional) programmed.emplace(hardware, plan, options, w);
  for (std::size_t p = 0; p < planes_.size(); ++p) {
    if (programmed) {
      const std::vector<std::int16_t> values = plane_values(plan, *programmed, planes_[p]);
      std::int16_t lowest = 0;
      std::int16_t highest = 0;
      for (const std::int16_t value : values) {
        lowest = std::min(lowest, value);
        highest = std::max(highest, value);
      }
      note_cell(lowest);
      note_cell(highest);
      fill<std::int16_t>(p, [&](std::int64_t index) { return values[static_cast<std::size_t>(index)]; });
    } else {
      const StoredValues stored = stored_values(plan, planes_[p], mode_, cell_bias_);
      for (const std::int32_t value : stored) note_cell(value);
      const auto source = [&](std::int64_t index) {
        return static_cast<std::int8_t>(stored[static_cast<std::uint8_t>(w[index])]);
      };
      if (format_ == CellFormat::kBits) {
        fill_bits(p, source);
      } else {
        fill<std::int8_t>(p, source);
      }
    }
  }
  weight_sums_.assign(static_cast<std::size_t>(outputs_), 0);
  for (std::int64_t o = 0; o < outputs_; ++o) {
    constexpr std::int64_t kRun = 1 << 16;  // weights that int32 can add up
    for (std::int64_t begin = 0; begin < inputs_; begin += kRun) {
      const std::int64_t end = std::min(inputs_, begin + kRun);
      std::int32_t sum = 0;
      for (std::int64_t k = begin; k < end; ++k) sum += w[o * inputs_ + k];
      weight_sums_[static_cast<std::size_t>(o)] += sum;
    }
  }
}

void PackedCells::note_cell(std::int32_t value) {
  min_cell_ = std::min(min_cell_, value);
  max_cell_ = std::max(max_cell_, value);
}

void PackedCells::choose_mode(const MvmPlan& plan) {
  if (plan.fractional) format_ = CellFormat::kWords;
  tile_inputs_ = plan.inputs_per_tile;
  if (plan.collapses) {
    mode_ = MvmMode::kDigital;
    tile_inputs_ = kDigitalTileInputs;
    planes_.push_back({});
  } else {
    // With an ideal converter the digits of an activation fold into the activation itself: I is linear in them.
    // Unless every digit is read with noise of its own.
    const bool reads = plan.reads != ReadModel::kNone;
    mode_ = plan.ideal && plan.fractional && !reads ? MvmMode::kFoldedDigits : MvmMode::kSliced;
    // Tiles do not matter to an ideal converter: shorter ones keep the sums of a tile in int32.
    if (plan.ideal && !reads) tile_inputs_ = std::min(tile_inputs_, kIdealTileInputs);
    for (int s = 0; s < plan.n_w; ++s) {
      planes_.push_back({s, false, false});
      if (plan.separate_columns) planes_.push_back({s, true, false});
    }
    if (plan.reads == ReadModel::kProportional) {
      const std::vector<CellPlane> conductances = planes_;
      for (const CellPlane& plane : conductances) planes_.push_back({plane.slice, plane.negative, true});
    }
    // Only the offset mapping has int8-sized cells above 127: they are stored less 128, which the kernel adds back.
    if (!plan.fractional && plan.mapping == Mapping::kOffset && plan.max_level > 127) cell_bias_ = 128;
    if (!plan.fractional && plan.max_level == 1 && plan.dac_bits == 1 && active_kernels().fast_bits) {
      format_ = CellFormat::kBits;
      lines_ = plan.mapping == Mapping::kOffset || plan.separate_columns ? 1 : 2;
    }
  }
  tile_inputs_ = std::min(tile_inputs_, inputs_);
  tiles_ = ceil_div(inputs_, tile_inputs_);
}

int PackedCells::panel_outputs(std::int64_t panel) const {
  return static_cast<int>(std::min<std::int64_t>(kPanelWidth, outputs_ - panel * kPanelWidth));
}

int PackedCells::panel_width(std::int64_t panel) const {
  return ceil_div(panel_outputs(panel), kLaneWidth) * kLaneWidth;
}

std::int64_t PackedCells::inputs_of_tile(std::int64_t tile) const {
  return std::min(tile_inputs_, inputs_ - tile * tile_inputs_);
}

std::int64_t PackedCells::inputs_of_step() const {
  switch (format_) {
    case CellFormat::kWords:
      return 2;
    case CellFormat::kBits:
      return 32;
    case CellFormat::kBytes:
      break;
  }
  return 4;
}

std::int64_t PackedCells::steps_of_tile(std::int64_t tile) const {
  return ceil_div(inputs_of_tile(tile), inputs_of_step());
}

std::size_t PackedCells::flag_index(std::int64_t panel, std::size_t plane, std::int64_t tile) const {
  return (static_cast<std::size_t>(panel) * planes_.size() + plane) * static_cast<std::size_t>(tiles_) +
         static_cast<std::size_t>(tile);
}

std::int64_t PackedCells::offset(std::int64_t panel, std::size_t plane, std::int64_t tile) const {
  const auto planes = static_cast<std::int64_t>(planes_.size());
  const std::int64_t before = panel * kPanelWidth * planes * steps_;  // lanes: panels before this one are full
  const std::int64_t step = static_cast<std::int64_t>(plane) * steps_ + tile * steps_of_tile(0);
  return 4 * lines_ * (before + step * panel_width(panel));
}

const std::byte* PackedCells::tile(std::int64_t panel, std::size_t plane, std::int64_t tile) const {
  return data_.get() + offset(panel, plane, tile);
}

bool PackedCells::any_cell(std::int64_t panel, std::size_t plane, std::int64_t tile) const {
  return any_cell_[flag_index(panel, plane, tile)] != 0;
}

template <typename Cell, typename Source>
void PackedCells::fill(std::size_t plane, const Source& source) {
  // A plane at a time: panels have cells and flags of their own.
  const std::int64_t grain = std::max<std::int64_t>(1, kValuesOfThread / (kPanelWidth * inputs_));
  parallel_for(panels(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel) fill_panel<Cell>(panel, plane, source);
  });
}

template <typename Cell, typename Source>
void PackedCells::fill_panel(std::int64_t panel, std::size_t plane, const Source& source) {
  constexpr std::int64_t kGroup = 4 / sizeof(Cell);
  const std::int64_t step_cells = panel_width(panel) * kGroup;
  for (std::int64_t t = 0; t < tiles_; ++t) {
    const std::int64_t inputs = inputs_of_tile(t);
    int any = 0;
    for (int j = 0; j < panel_outputs(panel); ++j) {
      auto* cell = reinterpret_cast<Cell*>(data_.get() + offset(panel, plane, t)) + j * kGroup;
      std::int64_t index = (panel * kPanelWidth + j) * inputs_ + t * tile_inputs_;
      std::int64_t k = 0;
      for (; k + kGroup <= inputs; k += kGroup, index += kGroup, cell += step_cells) {
        std::array<Cell, kGroup> group;
#pragma GCC unroll 4
        for (std::int64_t q = 0; q < kGroup; ++q) group[static_cast<std::size_t>(q)] = source(index + q);
        std::int32_t bits = 0;
        std::memcpy(&bits, group.data(), sizeof(bits));
        std::memcpy(cell, &bits, sizeof(bits));
        any |= bits;
      }
      for (std::int64_t q = 0; k + q < inputs; ++q) {
        cell[q] = source(index + q);
        any |= cell[q];
      }
    }
    if (any != 0) any_cell_[flag_index(panel, plane, t)] = 1;
  }
}

template <typename Source>
void PackedCells::fill_bits(std::size_t plane, const Source& source) {
  for (std::int64_t panel = 0; panel < panels(); ++panel) {
    const std::int64_t width = panel_width(panel);
    for (std::int64_t t = 0; t < tiles_; ++t) {
      const std::int64_t inputs = inputs_of_tile(t);
      std::uint32_t any = 0;
      for (int j = 0; j < panel_outputs(panel); ++j) {
        auto* cell = reinterpret_cast<std::uint32_t*>(data_.get() + offset(panel, plane, t)) + j;
        std::int64_t index = (panel * kPanelWidth + j) * inputs_ + t * tile_inputs_;
        for (std::int64_t k = 0; k < inputs; k += 32, cell += lines_ * width) {
          std::uint32_t positive = 0;
          std::uint32_t negative = 0;
          for (std::int64_t q = 0; q < std::min<std::int64_t>(32, inputs - k); ++q) {
            const int value = source(index++);
            positive |= static_cast<std::uint32_t>(value > 0) << q;
            negative |= static_cast<std::uint32_t>(value < 0) << q;
          }
          cell[0] = positive;
          if (lines_ == 2) cell[width] = negative;
          any |= positive | negative;
        }
      }
      if (any != 0) any_cell_[flag_index(panel, plane, t)] = 1;
    }
  }
}

}  // namespace cimq::kernels::cpu
