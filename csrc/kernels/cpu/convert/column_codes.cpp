#include "kernels/cpu/convert/column_codes.h"

#include <algorithm>

#include "kernels/cpu/tile/dispatch.h"

namespace cimq::kernels::cpu {

ColumnCodes::ColumnCodes(const MvmPlan& plan, const PackedCells& cells, TileKernel kernel)
    : plan_(plan), kernel_(kernel), padded_outputs_(cells.panels() * kPanelWidth) {
  const auto size = static_cast<std::size_t>(plan.n_w * padded_outputs_);
  lo_.assign(size, 0);
  inv_lsb_.assign(size, 0.0F);
  for (int s = 0; s < plan.n_w; ++s) {
    for (std::int64_t o = 0; o < plan.outputs; ++o) {
      const SlicePlan range = plan.range(s, o);
      const auto index = static_cast<std::size_t>(s * padded_outputs_ + o);
      lo_[index] = range.lo * plan.unit();
      inv_lsb_[index] = range.inv_lsb;
    }
  }
}

void ColumnCodes::run(const TileArgs& args, std::int64_t panel, int slice) {
  rows_.clear();
  for (int r = 0; r < args.row_count; ++r) rows_.push_back({r, 0, 0, args.rows[r].digit_sum});
  currents_.assign(static_cast<std::size_t>(args.row_count) * static_cast<std::size_t>(args.width), 0);
  TileArgs exact = args;
  exact.rows = rows_.data();
  exact.sums = currents_.data();
  exact.convert = false;
  exact.negative = false;
  exact.lo = 0;
  kernel_(exact);
  convert(args, currents_.data(), panel, slice);
}

void ColumnCodes::convert(const TileArgs& args, const std::int32_t* currents, std::int64_t panel, int slice) const {
  const std::int64_t first = first_of(panel, slice);
  ColumnArgs columns{};
  columns.currents = currents;
  columns.width = args.width;
  columns.rows = args.rows;
  columns.row_count = args.row_count;
  columns.sums = args.sums;
  columns.negative = args.negative;
  columns.lo = lo_.data() + first;
  columns.inv_lsb = inv_lsb_.data() + first;
  columns.code_min = plan_.code_min;
  columns.code_max = plan_.code_max;
  active_kernels().columns(columns);
}

}  // namespace cimq::kernels::cpu
