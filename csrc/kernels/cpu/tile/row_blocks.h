// All digit rows of a tile in blocks as large as the registers allow, for kernels that hold a whole panel in registers.
// Included inside the target region of its user.
#pragma once

#include <bit>
#include <cstddef>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

/// The last rows, fewer than 2 * kRows: halves of what is left to try.
template <typename Kernel, int kLanes, int kRows>
void run_rest(const TileArgs& args, const std::byte* digits, const TileRow* rows, int left) {
  if (left >= kRows) {
    Kernel::template run_rows<kRows, kLanes>(args, digits, rows);
    digits += args.steps * 4 * kRows;
    rows += kRows;
    left -= kRows;
  }
  if constexpr (kRows > 1) run_rest<Kernel, kLanes, kRows / 2>(args, digits, rows, left);
}

template <typename Kernel, int kLanes>
void run_panel(const TileArgs& args) {
  constexpr int kRows = Kernel::max_rows(kLanes);
  constexpr int kRest = static_cast<int>(std::bit_floor(static_cast<unsigned>(kRows - 1)));
  const auto* digits = static_cast<const std::byte*>(args.digits);
  const TileRow* rows = args.rows;
  int left = args.row_count;
  for (; left >= kRows; left -= kRows, rows += kRows, digits += args.steps * 4 * kRows) {
    Kernel::template run_rows<kRows, kLanes>(args, digits, rows);
  }
  run_rest<Kernel, kLanes, kRest>(args, digits, rows, left);
}

/// Kernel: max_rows(lanes), and run_rows<rows, lanes>(args, digits, rows) for panels of 16 * lanes outputs.
template <typename Kernel>
void run_tile(const TileArgs& args) {
  switch (args.width) {
    case 16:
      return run_panel<Kernel, 1>(args);
    case 32:
      return run_panel<Kernel, 2>(args);
    case 48:
      return run_panel<Kernel, 3>(args);
    default:
      return run_panel<Kernel, 4>(args);
  }
}

}  // namespace
}  // namespace cimq::kernels::cpu
