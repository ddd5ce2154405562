// Currents of every conversion by the tile kernels (without their converter), reduced block by block.
#include "kernels/cpu/convert/conversions.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "common/error.h"
#include "kernels/cpu/convert/read_columns.h"
#include "kernels/cpu/mvm/digit_block.h"
#include "kernels/cpu/mvm/packed_cells.h"
#include "kernels/cpu/tile/dispatch.h"
#include "kernels/formula/adc.h"

namespace cimq::kernels::cpu {
namespace {

using Lanes = std::array<float, kPanelWidth>;

/// One tile of one plane: currents [rows][n_x][width] of the panel's outputs.
struct TileCurrents {
  std::int64_t panel;
  std::size_t plane;
  std::int64_t tile;
  int width;    ///< padded
  int outputs;  ///< of the panel
  const std::int32_t* currents;
};

class CurrentScan {
 public:
  CurrentScan(const CrossbarMvm& mvm, std::int64_t max_rows)
      : plan_(mvm.plan()),
        cells_(mvm.cells()),
        digits_(plan_, cells_, max_rows),
        currents_(static_cast<std::size_t>(max_rows * plan_.n_x * kPanelWidth)) {
    kernel_ = kernel_of(active_kernels(), cells_.format());
    if (mvm.noise() != nullptr) reads_.emplace(plan_, cells_, *mvm.noise(), kernel_);
  }

  /// Calls visit(TileCurrents) for every panel, plane and tile, in this order.
  template <typename Visit>
  void run(const std::uint8_t* x, std::int64_t rows, std::uint64_t first_access, const Visit& visit) {
    digits_.load(x, rows);
    if (reads_) reads_->begin_block(first_access, rows);
    place_rows();
    for (std::int64_t panel = 0; panel < cells_.panels(); ++panel) {
      const int width = cells_.panel_width(panel);
      for (std::size_t plane = 0; plane < cells_.planes().size(); ++plane) {
        if (cells_.planes()[plane].variance) continue;
        for (std::int64_t tile = 0; tile < cells_.tiles(); ++tile) {
          // A digit that is zero over the whole tile has no row, and its currents are zero.
          std::fill_n(currents_.begin(), static_cast<std::size_t>(rows * plan_.n_x * width), 0);
          if (reads_ || cells_.any_cell(panel, plane, tile)) add_currents(panel, plane, tile, width);
          visit(TileCurrents{panel, plane, tile, width, cells_.panel_outputs(panel), currents_.data()});
        }
      }
    }
  }

 private:
  /// The kernel is to add every digit of a row to a line of its own.
  void place_rows() {
    placed_.resize(static_cast<std::size_t>(cells_.tiles()));
    for (std::int64_t t = 0; t < cells_.tiles(); ++t) {
      std::vector<TileRow>& placed = placed_[static_cast<std::size_t>(t)];
      placed = digits_.rows(t);
      for (TileRow& row : placed) {
        row.output_row = row.output_row * plan_.n_x + row.shift / plan_.dac_bits;
        row.shift = 0;
        row.negative = 0;
      }
    }
  }

  void add_currents(std::int64_t panel, std::size_t plane, std::int64_t tile, int width) {
    const std::vector<TileRow>& placed = placed_[static_cast<std::size_t>(tile)];
    TileArgs args{};
    args.cells = cells_.tile(panel, plane, tile);
    args.steps = cells_.steps_of_tile(tile);
    args.width = width;
    args.digits = digits_.digits(tile);
    args.rows = placed.data();
    args.row_count = static_cast<int>(placed.size());
    args.sums = currents_.data();
    args.convert = false;
    args.cell_bias = cells_.cell_bias();
    args.pairs = cells_.pairs();
    args.max_product = digits_.max_digit() * cells_.max_cell();
    if (!reads_) {
      kernel_(args);
      return;
    }
    args.rows = digits_.rows(tile).data();  // the noise belongs to the access and the digit
    const std::int32_t* noisy = reads_->currents(args, panel, plane, tile);
    for (std::size_t r = 0; r < placed.size(); ++r, noisy += width) {
      std::copy_n(noisy, width, currents_.begin() + std::ptrdiff_t{placed[r].output_row} * width);
    }
  }

  const MvmPlan& plan_;
  const PackedCells& cells_;
  DigitBlock digits_;
  TileKernel kernel_ = nullptr;
  std::optional<ReadColumns> reads_;
  std::vector<std::int32_t> currents_;
  std::vector<std::vector<TileRow>> placed_;
};

/// Converters of a panel's columns in the form that adc_convert takes.
class LineConverter {
 public:
  LineConverter(const MvmPlan& plan, int slice, std::int64_t panel)
      : code_min(static_cast<float>(plan.code_min)),
        code_max(static_cast<float>(plan.code_max)),
        level_(1.0 / plan.unit()) {
    const std::int64_t first = panel * kPanelWidth;
    for (std::size_t o = 0; o < lo.size(); ++o) {
      // Without a range per column every output has the slice's; beyond the last output there is nothing to convert.
      const std::int64_t output = std::min(first + static_cast<std::int64_t>(o), plan.outputs - 1);
      const SlicePlan range = plan.range(slice, output);
      lo[o] = range.lo * plan.unit();
      inv_lsb[o] = range.inv_lsb;
      lsb_[o] = range.lsb;
    }
  }

  AdcConversion convert(std::size_t o, std::int32_t current) const {
    return adc_convert(current - lo[o], inv_lsb[o], code_min, code_max);
  }

  /// What a code is off, squared, in level units.
  double squared_error(std::size_t o, std::int32_t current, std::int32_t code) const {
    return adc_squared_error(lo[o], lsb_[o], current, code, level_);
  }

  std::array<std::int32_t, kPanelWidth> lo{};
  std::array<float, kPanelWidth> inv_lsb{};
  float code_min;
  float code_max;

 private:
  std::array<double, kPanelWidth> lsb_{};
  double level_;  ///< levels of one unit of current: a power of two
};

void check_scan(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t batch, std::uint64_t last_access,
                const char* op) {
  const MvmPlan& plan = mvm.plan();
  check(!plan.ideal && !plan.collapses, op, ": needs a converter and cells that are not folded");
  check(batch >= 0, op, ": batch must be at least 0, got ", batch);
  check(last_access <= kMaxAccess, op, ": accesses must be numbered up to 2^48, got ", last_access);
  check_activations(x, batch * plan.inputs, plan.act_bits, plan.act_signed);
}

/// Calls run(first row, rows) for blocks of at most `block` rows.
template <typename Run>
void for_each_block(std::int64_t begin, std::int64_t end, std::int64_t block, const Run& run) {
  for (std::int64_t first = begin; first < end; first += block) run(first, std::min(block, end - first));
}

/// `times` conversions of one current of the panel's output o. Returns their sum of squared errors.
double count_current(const MvmPlan& plan, const LineConverter& adc, std::size_t o, std::int32_t current,
                     std::int64_t times, SliceConversions& counts) {
  const AdcConversion found = adc.convert(o, current);
  const auto code = static_cast<std::int32_t>(found.code);
  counts.codes[static_cast<std::size_t>(code - plan.code_min)] += times;
  counts.clipped_low += found.below ? times : 0;
  counts.clipped_high += found.above ? times : 0;
  counts.lowest = std::min<std::int64_t>(counts.lowest, current);
  counts.highest = std::max<std::int64_t>(counts.highest, current);
  return static_cast<double>(times) * adc.squared_error(o, current, code);
}

/// The conversions of a line of outputs, one by one.
void count_line(const MvmPlan& plan, const LineConverter& adc, const std::int32_t* currents, int outputs,
                SliceConversions& counts) {
  std::array<double, 4> errors{};  // sums that do not wait for each other
  for (std::size_t o = 0; o < static_cast<std::size_t>(outputs); ++o) {
    errors[o % errors.size()] += count_current(plan, adc, o, currents[o], 1, counts);
  }
  counts.squared_error += (errors[0] + errors[1]) + (errors[2] + errors[3]);
}

/// How often each current occurred, where there are few different ones: everything else follows from that.
class CurrentHistogram {
 public:
  /// Different currents from which on they are looked at one by one.
  static constexpr std::int64_t kMost = std::int64_t{1} << 16;

  explicit CurrentHistogram(const MvmPlan& plan)
      : largest_(static_cast<std::int32_t>(plan.largest_current)),
        times_(kCopies * static_cast<std::size_t>(2 * plan.largest_current + 1)) {}

  static bool suits(const MvmPlan& plan) {
    return !plan.fractional && !plan.by_column() && 2 * plan.largest_current < kMost;
  }

  void add(const std::int32_t* currents, int outputs) {
    // Equal currents follow each other often (zeros): neighbours count in copies of their own.
    for (int o = 0; o < outputs; ++o) {
      ++times_[kCopies * static_cast<std::size_t>(currents[o] + largest_) + static_cast<std::size_t>(o) % kCopies];
    }
  }

  /// Calls count(current, times) for every current that occurred.
  template <typename Count>
  void for_each(const Count& count) const {
    for (std::size_t j = 0; j < times_.size(); j += kCopies) {
      const auto first = times_.begin() + static_cast<std::ptrdiff_t>(j);
      const std::int64_t times = std::accumulate(first, first + kCopies, std::int64_t{0});
      if (times > 0) count(static_cast<std::int32_t>(j / kCopies) - largest_, times);
    }
  }

 private:
  static constexpr std::size_t kCopies = 4;

  std::int32_t largest_;
  std::vector<std::int64_t> times_;
};

/// The digits of one row: passing digit weights and step terms are added to `passed` and `step`.
void add_digits(const MvmPlan& plan, const LineConverter& adc, const std::int32_t* currents, int width, Lanes& passed,
                Lanes& step) {
  for (int i = 0; i < plan.n_x; ++i, currents += width) {
    const auto weight = static_cast<float>(plan.digit_weights[static_cast<std::size_t>(i)]);
    const float magnitude = std::abs(weight);
    for (std::size_t lane = 0; lane < static_cast<std::size_t>(width); ++lane) {
      const AdcConversion found = adc.convert(lane, currents[lane]);
      const bool clipped = found.below || found.above;
      passed[lane] += clipped ? 0.0F : magnitude;
      step[lane] += weight * (found.code - (clipped ? 0.0F : found.scaled));
    }
  }
}

}  // namespace

std::vector<SliceConversions> count_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t batch,
                                                std::uint64_t first_access) {
  check_scan(mvm, x, batch, first_access + static_cast<std::uint64_t>(std::max<std::int64_t>(0, batch)),
             "count_conversions");
  const MvmPlan& plan = mvm.plan();
  std::vector<SliceConversions> counts(static_cast<std::size_t>(plan.n_w));
  for (SliceConversions& slice : counts) slice.codes.assign(static_cast<std::size_t>(plan.levels), 0);
  if (batch == 0) return counts;
  for (SliceConversions& slice : counts) {
    slice.lowest = std::numeric_limits<std::int64_t>::max();
    slice.highest = std::numeric_limits<std::int64_t>::min();
  }
  std::vector<CurrentHistogram> histograms;
  if (CurrentHistogram::suits(plan)) histograms.assign(counts.size(), CurrentHistogram(plan));
  const std::int64_t block = std::min(batch, DigitBlock::rows_per_block(plan, mvm.cells()));
  CurrentScan scan(mvm, block);
  for_each_block(0, batch, block, [&](std::int64_t first, std::int64_t rows) {
    scan.run(x + first * plan.inputs, rows, first_access + static_cast<std::uint64_t>(first),
             [&](const TileCurrents& tile) {
               const auto s = static_cast<std::size_t>(mvm.cells().planes()[tile.plane].slice);
               const LineConverter adc(plan, static_cast<int>(s), tile.panel);
               for (std::int64_t j = 0; j < rows * plan.n_x; ++j) {
                 const std::int32_t* currents = tile.currents + j * tile.width;
                 if (!histograms.empty()) {
                   histograms[s].add(currents, tile.outputs);
                 } else {
                   count_line(plan, adc, currents, tile.outputs, counts[s]);
                 }
               }
             });
  });
  for (std::size_t s = 0; s < histograms.size(); ++s) {
    const LineConverter adc(plan, static_cast<int>(s), 0);
    histograms[s].for_each([&](std::int32_t current, std::int64_t times) {
      counts[s].squared_error += count_current(plan, adc, 0, current, times, counts[s]);
    });
  }
  return counts;
}

void shares_of_conversions(const CrossbarMvm& mvm, const std::uint8_t* x, std::int64_t begin, std::int64_t end,
                           const ConversionShares& out, std::uint64_t first_access) {
  check(begin >= 0 && begin <= end && end <= out.rows, "shares_of_conversions: rows must lie in 0..", out.rows,
        ", got ", begin, "..", end);
  const MvmPlan& plan = mvm.plan();
  check_scan(mvm, x + begin * plan.inputs, end - begin, first_access + static_cast<std::uint64_t>(end),
             "shares_of_conversions");
  if (begin == end) return;
  float digits = 0.0F;
  for (const std::int32_t weight : plan.digit_weights) digits += static_cast<float>(std::abs(weight));
  const std::int64_t block = std::min(end - begin, DigitBlock::rows_per_block(plan, mvm.cells()));
  const std::int64_t matrix = out.rows * plan.outputs;
  if (out.step != nullptr) {
    for (int s = 0; s < plan.n_w; ++s) {
      std::fill_n(out.step + s * matrix + begin * plan.outputs, (end - begin) * plan.outputs, 0.0F);
    }
  }
  CurrentScan scan(mvm, block);
  for_each_block(begin, end, block, [&](std::int64_t first, std::int64_t rows) {
    scan.run(x + first * plan.inputs, rows, first_access + static_cast<std::uint64_t>(first),
             [&](const TileCurrents& tile) {
               const CellPlane& plane = mvm.cells().planes()[tile.plane];
               const LineConverter adc(plan, plane.slice, tile.panel);
               const std::int64_t column = plane.negative ? 1 : 0;
               const std::int64_t pass_matrix = (tile.tile * converted_columns(plan) + column) * plan.n_w + plane.slice;
               for (std::int64_t row = 0; row < rows; ++row) {
                 Lanes passed{};
                 Lanes step{};
                 add_digits(plan, adc, tile.currents + row * plan.n_x * tile.width, tile.width, passed, step);
                 const std::int64_t offset = (first + row) * plan.outputs + tile.panel * kPanelWidth;
                 if (out.pass != nullptr) {
                   float* target = out.pass + pass_matrix * matrix + offset;
                   for (int o = 0; o < tile.outputs; ++o) target[o] = passed[static_cast<std::size_t>(o)] / digits;
                 }
                 if (out.step != nullptr) {
                   float* target = out.step + plane.slice * matrix + offset;
                   const float sign = plane.negative ? -1.0F : 1.0F;
                   for (int o = 0; o < tile.outputs; ++o) target[o] += sign * step[static_cast<std::size_t>(o)];
                 }
               }
             });
  });
}

}  // namespace cimq::kernels::cpu
