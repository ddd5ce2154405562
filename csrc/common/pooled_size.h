// How many windows pooling has along an axis: one rule for operators, graphs and the executor.
#pragma once

#include <cstdint>

namespace cimq {

/// PyTorch's rule: (size + 2 * pad - reach) / stride + 1 with reach = dilation * (kernel - 1) + 1, rounded down; with
/// ceil_mode rounded up, but the last window starts inside the image or its left padding. 0 where no window fits.
/// No overflow for arguments up to 2^31.
constexpr std::int64_t pooled_size(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t pad,
                                   std::int64_t dilation, bool ceil_mode) {
  const std::int64_t room = size + 2 * pad - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  const std::int64_t count = room / stride + 1;
  return ceil_mode && (count - 1) * stride >= size + pad ? count - 1 : count;
}

}  // namespace cimq
