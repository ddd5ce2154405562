// The crossbar MVM on the CPU: blocks of batch rows, panels of outputs, slices, row tiles; the rest is a tile kernel.
#include "kernels/cpu/mvm/crossbar_mvm.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "common/error.h"
#include "kernels/cpu/convert/column_codes.h"
#include "kernels/cpu/convert/read_columns.h"
#include "kernels/cpu/mvm/digit_block.h"
#include "kernels/cpu/mvm/packed_cells.h"
#include "kernels/cpu/tile/dispatch.h"

namespace cimq::kernels::cpu {
namespace {

/// Scratch of one panel of one block: [rows][panel width].
template <typename T>
using Panel = std::vector<T>;

/// Exact results are summed in int64 and fit int32 in the end; float results as the contract orders.
template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, float>, float, std::int64_t>;

/// Digit rows from which on tables of partial sums are worth making.
constexpr std::int64_t kMinTableRows = 16;
/// Digit rows from which on int16 cells are worth splitting into bytes, and inputs of a tile up to which that is done.
constexpr std::int64_t kMinMatrixWordRows = 64;
constexpr std::int64_t kMaxMatrixWordInputs = 2048;

struct KernelChoice {
  TileKernel kernel;
  DigitFormat digits;
  std::int64_t scratch_per_row = 0;  ///< bytes, per digit row
  std::int64_t scratch = 0;          ///< bytes

  /// Whether the kernel converts columns that have ranges of their own.
  bool converts_columns() const { return digits != DigitFormat::kLikeCells; }
};

/// Products of matrices where the processor has them. Else tables of partial sums where digits are single bits, cells
/// and currents small enough for them, and rows many. With read noise both need digits that are their own squares.
KernelChoice choose_kernel(const MvmPlan& plan, const PackedCells& cells, std::int64_t batch) {
  const TileKernels& kernels = active_kernels();
  if (kernels.matrix.bytes != nullptr && (plan.reads == ReadModel::kNone || plan.dac_bits == 1)) {
    if (cells.format() == CellFormat::kBytes) return {kernels.matrix.bytes, DigitFormat::kMatrix};
    if (cells.format() == CellFormat::kWords && batch * DigitBlock::digits_of(plan, cells) >= kMinMatrixWordRows &&
        cells.tile_inputs() <= kMaxMatrixWordInputs) {
      const InputTiles inputs = input_tiles((cells.tile_inputs() + 3) / 4);
      return {kernels.matrix.words, DigitFormat::kMatrix, 0, inputs.scratch_bytes()};
    }
  }
  const std::int64_t range = 4 * (std::int64_t{cells.max_cell()} - cells.min_cell());
  const bool many = cells.mode() == MvmMode::kSliced && plan.dac_bits == 1 && batch * plan.n_x >= kMinTableRows;
  if (many && cells.format() == CellFormat::kBytes && kernels.tables.bytes != nullptr && range <= 255) {
    std::int64_t lo = 0;
    for (const SlicePlan& slice : plan.slices) lo = std::max(lo, std::abs(std::int64_t{slice.lo}));
    for (const std::int32_t column : plan.column_ranges.lo) lo = std::max(lo, std::abs(std::int64_t{column}));
    const std::int64_t largest =
        std::min(cells.tile_inputs(), plan.inputs) * std::max(cells.max_cell(), -cells.min_cell());
    if (largest + lo <= std::numeric_limits<std::int16_t>::max()) {
      return {kernels.tables.bytes, DigitFormat::kGroups, kScratchPerRow};
    }
  }
  if (many && cells.format() == CellFormat::kWords && kernels.tables.words != nullptr && range <= 65535) {
    return {kernels.tables.words, DigitFormat::kGroups, kScratchPerRow};
  }
  return {kernel_of(kernels, cells.format()), DigitFormat::kLikeCells};
}

/// Memory of a block's panel per row, as BlockRunner takes it: sums, sums in int64, results, scratch, applied sum.
std::int64_t panel_bytes_per_row(const MvmPlan& plan, const PackedCells& cells, const KernelChoice& choice) {
  std::int64_t bytes = kPanelWidth * (4 + 8 + 8) + DigitBlock::digits_of(plan, cells) * choice.scratch_per_row + 8;
  // Read noise keeps the currents and variances of every digit, and the digits squared.
  if (plan.reads != ReadModel::kNone) {
    const std::int64_t digit = kPanelWidth * 8 + cells.steps_of_tile(0) * 4 + 8 + sizeof(TileRow);
    bytes += DigitBlock::digits_of(plan, cells) * digit + static_cast<std::int64_t>(sizeof(PhiloxCounter));
  }
  if (plan.by_column() && !choice.converts_columns())
    bytes += DigitBlock::digits_of(plan, cells) * ColumnCodes::kBytesPerDigitRow;
  return bytes;
}

template <typename T>
class BlockRunner {
 public:
  BlockRunner(const MvmPlan& plan, const PackedCells& cells, const ColumnNoise* noise, std::int64_t max_rows,
              const KernelChoice& choice)
      : plan_(plan),
        cells_(cells),
        digits_(plan, cells, max_rows, choice.digits),
        kernel_(choice.kernel),
        converts_columns_(choice.converts_columns()) {
    const auto size = static_cast<std::size_t>(max_rows * kPanelWidth);
    wide_ = cells.mode() != MvmMode::kDigital &&
            (plan.ideal || plan.largest_sum > std::numeric_limits<std::int32_t>::max());
    sums_.resize(size);
    if (wide_) wide_sums_.resize(size);
    result_.resize(size);
    const std::int64_t scratch =
        choice.scratch + max_rows * DigitBlock::digits_of(plan, cells) * choice.scratch_per_row;
    // Written by the kernels before they read it.
    if (scratch > 0) scratch_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(scratch));
    if (noise != nullptr) reads_.emplace(plan, cells, *noise, kernel_);
    if (plan.by_column() && cells.mode() != MvmMode::kDigital) {
      columns_.emplace(plan, cells, kernel_);
      for (std::int64_t o = 0; o < plan.outputs; ++o) lo_constants_.push_back(plan.lo_constant(o));
    }
  }

  void run(const std::uint8_t* x, std::int64_t rows, PanelRange panels, T* y, std::uint64_t first_access) {
    digits_.load(x, rows);
    if (reads_) reads_->begin_block(first_access, rows);
    for (std::int64_t panel = panels.begin; panel < panels.end; ++panel) run_panel(panel, rows, y);
  }

 private:
  void run_panel(std::int64_t panel, std::int64_t rows, T* y) {
    const auto used = static_cast<std::size_t>(rows * cells_.panel_width(panel));
    const int slices = cells_.mode() == MvmMode::kDigital ? 1 : plan_.n_w;
    for (int s = 0; s < slices; ++s) {
      std::fill_n(sums_.begin(), used, 0);
      if (wide_) std::fill_n(wide_sums_.begin(), used, std::int64_t{0});
      for (std::size_t p = 0; p < cells_.planes().size(); ++p) {
        const CellPlane& plane = cells_.planes()[p];
        if (plane.slice == s && !plane.variance) run_plane(panel, p, used);
      }
      if (wide_) {
        end_slice(s, slices, wide_sums_.data(), panel, rows, y);
      } else {
        end_slice(s, slices, sums_.data(), panel, rows, y);
      }
    }
  }

  void run_plane(std::int64_t panel, std::size_t plane, std::size_t used) {
    const SlicePlan& slice = plan_.slices[static_cast<std::size_t>(cells_.planes()[plane].slice)];
    TileArgs args{};
    args.width = cells_.panel_width(panel);
    args.sums = sums_.data();
    args.convert = !plan_.ideal && cells_.mode() != MvmMode::kDigital;
    args.negative = cells_.planes()[plane].negative;
    args.inv_lsb = slice.inv_lsb;
    args.code_min = plan_.code_min;
    args.code_max = plan_.code_max;
    args.lo = args.convert ? slice.lo * plan_.unit() : 0;
    args.cell_bias = cells_.cell_bias();
    args.pairs = cells_.pairs();
    args.max_product = digits_.max_digit() * std::max(cells_.max_cell(), -cells_.min_cell());
    args.min_cell = cells_.min_cell();
    args.max_cell = cells_.max_cell();
    args.clips = can_clip(plan_, slice);
    args.scratch = scratch_.get();
    args.signed_digits = digits_.keeps_sign();
    for (std::int64_t t = 0; t < cells_.tiles(); ++t) {
      if (!reads_ && plan_.zero_input_is_zero_code() && !cells_.any_cell(panel, plane, t)) continue;
      args.cells = cells_.tile(panel, plane, t);
      args.steps = cells_.steps_of_tile(t);
      args.digits = digits_.digits(t);
      args.rows = digits_.rows(t).data();
      args.row_count = static_cast<int>(digits_.rows(t).size());
      if (columns_) {
        run_columns(*columns_, args, panel, plane, t);
      } else if (reads_) {
        reads_->run(args, panel, plane, t);
      } else {
        kernel_(args);
      }
      if (!wide_) continue;
      for (std::size_t j = 0; j < used; ++j) wide_sums_[j] += sums_[j];
      std::fill_n(sums_.begin(), used, 0);
    }
  }

  void run_columns(ColumnCodes& columns, TileArgs& args, std::int64_t panel, std::size_t plane, std::int64_t tile) {
    const int slice = cells_.planes()[plane].slice;
    if (reads_) {
      columns.convert(args, reads_->currents(args, panel, plane, tile), panel, slice);
    } else if (converts_columns_) {
      columns.set_ranges(args, panel, slice);
      kernel_(args);
    } else {
      columns.run(args, panel, slice);
    }
  }

  /// end_slice where every column has a range of its own.
  template <typename Sum>
  void end_column_slice(int s, int slices, const Sum* sums, std::int64_t panel, std::int64_t rows, float* y) {
    const int outputs = cells_.panel_outputs(panel);
    const std::int64_t first = panel * kPanelWidth;
    const float* scales = plan_.column_ranges.scale.data() + s * plan_.outputs + first;
    for (std::int64_t row = 0; row < rows; ++row, sums += cells_.panel_width(panel)) {
      Accumulator<T>* result = result_.data() + row * cells_.panel_width(panel);
      for (int j = 0; j < outputs; ++j) {
        result[j] = (s == 0 ? 0.0F : result[j]) + static_cast<float>(sums[j]) * scales[j];
      }
      if (s + 1 < slices) continue;
      const std::int64_t offset = plan_.weight_shift * digits_.applied_sums()[static_cast<std::size_t>(row)];
      float* out = y + row * plan_.outputs + first;
      for (int j = 0; j < outputs; ++j) {
        const auto column = static_cast<std::size_t>(first + j);
        const std::int64_t correction = -digits_.input_shift() * cells_.weight_sums()[column] - offset;
        out[j] = result[j] + lo_constants_[column] + static_cast<float>(correction);
      }
    }
  }

  /// The sums of a slice go into the results, and with the last slice on into y, in one pass where there is only one.
  template <typename Sum>
  void end_slice(int s, int slices, const Sum* sums, std::int64_t panel, std::int64_t rows, T* y) {
    if constexpr (std::is_same_v<T, float>) {
      if (columns_) {
        end_column_slice(s, slices, sums, panel, rows, y);
        return;
      }
    }
    const SlicePlan& slice = plan_.slices[static_cast<std::size_t>(s)];
    if (s + 1 < slices) {
      const auto used = static_cast<std::size_t>(rows * cells_.panel_width(panel));
      for (std::size_t j = 0; j < used; ++j) {
        result_[j] = added(s == 0 ? Accumulator<T>{0} : result_[j], sums[j], slice);
      }
    } else if (s == 0) {
      write<true>(slice, sums, panel, rows, y);
    } else {
      write<false>(slice, sums, panel, rows, y);
    }
  }

  template <typename Sum>
  Accumulator<T> added(Accumulator<T> before, Sum sum, const SlicePlan& slice) const {
    if constexpr (std::is_same_v<T, float>) {
      return before + static_cast<float>(sum) * slice.scale;
    } else {
      return before + (cells_.mode() == MvmMode::kDigital ? 1 : slice.weight) * sum;
    }
  }

  template <bool kOnly, typename Sum>
  void write(const SlicePlan& slice, const Sum* sums, std::int64_t panel, std::int64_t rows, T* y) const {
    const int outputs = cells_.panel_outputs(panel);
    const std::int64_t weight_shift = cells_.mode() == MvmMode::kDigital ? 0 : plan_.weight_shift;
    const float lo_constant = plan_.lo_constant(0);
    const std::int64_t* weight_sums = cells_.weight_sums().data() + panel * kPanelWidth;
    const std::int64_t width = cells_.panel_width(panel);
    if constexpr (std::is_same_v<T, std::int32_t> && std::is_same_v<Sum, std::int32_t>) {
      if (kOnly && cells_.mode() == MvmMode::kDigital && digits_.input_shift() == 0) {  // the sums are the results
        for (std::int64_t row = 0; row < rows; ++row) {
          std::copy_n(sums + row * width, outputs, y + row * plan_.outputs + panel * kPanelWidth);
        }
        return;
      }
    }
    for (std::int64_t row = 0; row < rows; ++row, sums += width) {
      const Accumulator<T>* before = result_.data() + row * width;
      const auto result = [&](int j) { return added(kOnly ? Accumulator<T>{0} : before[j], sums[j], slice); };
      const std::int64_t offset = weight_shift * digits_.applied_sums()[static_cast<std::size_t>(row)];
      T* out = y + row * plan_.outputs + panel * kPanelWidth;
      if (std::is_same_v<T, float> && digits_.input_shift() == 0) {
        // One correction for the whole row: a loop over vectors.
        const auto same = static_cast<float>(-offset);
        for (int j = 0; j < outputs; ++j) out[j] = static_cast<T>(result(j) + lo_constant + same);
        continue;
      }
      for (int j = 0; j < outputs; ++j) {
        const std::int64_t correction = -digits_.input_shift() * weight_sums[j] - offset;
        if constexpr (std::is_same_v<T, float>) {
          out[j] = result(j) + lo_constant + static_cast<float>(correction);
        } else {
          // The digital product of shifted activations is exact modulo 2^32 (plan: the result itself fits int32).
          out[j] = static_cast<std::int32_t>(static_cast<std::uint32_t>(result(j) + correction));
        }
      }
    }
  }

  const MvmPlan& plan_;
  const PackedCells& cells_;
  DigitBlock digits_;
  bool wide_ = false;
  TileKernel kernel_;
  bool converts_columns_;
  std::optional<ReadColumns> reads_;
  std::optional<ColumnCodes> columns_;  ///< ranges per column
  std::vector<float> lo_constants_;     ///< [outputs], with ranges per column
  Panel<std::int32_t> sums_;
  Panel<std::int64_t> wide_sums_;
  Panel<Accumulator<T>> result_;
  std::unique_ptr<std::byte[]> scratch_;
};

template <typename T>
void run_all(const MvmPlan& plan, const PackedCells& cells, const ColumnNoise* noise, const std::uint8_t* x,
             std::int64_t batch, PanelRange panels, T* y, std::uint64_t first_access) {
  check(plan.exact == std::is_same_v<T, std::int32_t>, "crossbar_mvm: this configuration gives ",
        plan.exact ? "int32" : "float32", " results");
  check(batch >= 0, "crossbar_mvm: batch must be at least 0, got ", batch);
  check(first_access <= kMaxAccess && static_cast<std::uint64_t>(batch) <= kMaxAccess - first_access,
        "crossbar_mvm: first_access plus the batch must be at most 2^48, got ", first_access, " and ", batch);
  check(panels.begin >= 0 && panels.begin <= panels.end && panels.end <= cells.panels(),
        "crossbar_mvm: panels must be a range within 0..", cells.panels(), ", got ", panels.begin, "..", panels.end);
  if (batch == 0 || panels.begin == panels.end) return;
  check_activations(x, batch * plan.inputs, plan.act_bits, plan.act_signed);
  const KernelChoice choice = choose_kernel(plan, cells, batch);
  const std::int64_t block = std::min(batch, DigitBlock::rows_per_block(plan, cells, choice.digits));
  BlockRunner<T> runner(plan, cells, noise, block, choice);
  for (std::int64_t b = 0; b < batch; b += block) {
    runner.run(x + b * plan.inputs, std::min(block, batch - b), panels, y + b * plan.outputs,
               first_access + static_cast<std::uint64_t>(b));
  }
}

}  // namespace

CrossbarMvm::CrossbarMvm(const MvmProblem& problem) : plan_(std::make_shared<const MvmPlan>(problem.plan())) {
  check_weights(problem.w, problem.outputs * problem.inputs, problem.options.weight_bits);
  cells_ = std::make_shared<const PackedCells>(problem.hardware, *plan_, problem.options, problem.w);
  if (plan_->reads != ReadModel::kNone) {
    noise_ = std::make_shared<const ColumnNoise>(problem.hardware, *plan_, problem.options);
  }
}

bool has_fast_products() { return active_kernels().fast_products; }

std::int64_t programming_bytes(const Hardware& hardware, const MvmPlan& plan) {
  constexpr std::int64_t kObjects = 4096;  // plan, cells and noise themselves, whatever the matrix
  constexpr std::int64_t kRange = 32;      // of a converter, where columns have their own
  const std::int64_t ranges = plan.by_column() ? plan.outputs * plan.n_w * kRange : 0;
  return kObjects + ranges + PackedCells::bytes_to_make(hardware, plan);
}

std::int64_t CrossbarMvm::packed_bytes() const { return cells_->bytes(); }

std::int64_t CrossbarMvm::scratch_bytes(std::int64_t batch) const {
  if (batch <= 0) return 0;
  const KernelChoice choice = choose_kernel(*plan_, *cells_, batch);
  const std::int64_t rows = std::min(batch, DigitBlock::rows_per_block(*plan_, *cells_, choice.digits));
  return rows * (DigitBlock::bytes_per_row(*plan_, *cells_, choice.digits) +
                 panel_bytes_per_row(*plan_, *cells_, choice)) +
         cells_->tile_inputs() + kTableBytes + choice.scratch;
}

std::int64_t CrossbarMvm::panels() const { return cells_->panels(); }

void CrossbarMvm::run(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, std::uint64_t first_access) const {
  run_panels(x, batch, {0, cells_->panels()}, y, first_access);
}

void CrossbarMvm::run(const std::uint8_t* x, std::int64_t batch, float* y, std::uint64_t first_access) const {
  run_panels(x, batch, {0, cells_->panels()}, y, first_access);
}

void CrossbarMvm::run_panels(const std::uint8_t* x, std::int64_t batch, PanelRange panels, std::int32_t* y,
                             std::uint64_t first_access) const {
  run_all(*plan_, *cells_, noise_.get(), x, batch, panels, y, first_access);
}

void CrossbarMvm::run_panels(const std::uint8_t* x, std::int64_t batch, PanelRange panels, float* y,
                             std::uint64_t first_access) const {
  run_all(*plan_, *cells_, noise_.get(), x, batch, panels, y, first_access);
}

bool CrossbarMvm::splits_batch(std::int64_t batch, std::int64_t threads) const {
  // A block that is as large as it gets leaves nothing to win by sharing the tables of a panel.
  return panels() < threads || batch >= threads * DigitBlock::rows_per_block(*plan_, *cells_, DigitFormat::kGroups);
}

}  // namespace cimq::kernels::cpu
