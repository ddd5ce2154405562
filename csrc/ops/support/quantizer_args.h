// What fake_quantize, its backward and quantize share: the view of x as [outer, channels, inner] and its checks.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "kernels/fake_quantize.h"

namespace cimq::ops {

/// x seen as rows of `inner` values that share a scale; row r has channel r % channels.
struct ScaledRows {
  std::int64_t rows = 1;
  std::int64_t channels = 1;
  std::int64_t inner = 0;
  bool by_first_axis = false;       ///< the channels are those of the first dimension
  bool per_tensor = true;           ///< no axis was given: any dense layout will do
  std::int64_t blocks_per_row = 1;  ///< a row is worked on in blocks, so that one long row feeds every thread

  static constexpr std::int64_t kBlock = 1 << 14;
  std::int64_t blocks() const { return rows * blocks_per_row; }
  std::int64_t grain() const;

  /// Calls body(block, channel, begin, count) with offsets into the flat tensor, in parallel.
  template <typename Body>
  void for_each_block(const Body& body) const {
    at::parallel_for(0, inner > 0 ? blocks() : 0, grain(), [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t block = first; block < last; ++block) {
        const std::int64_t row = block / blocks_per_row;
        const std::int64_t offset = (block - row * blocks_per_row) * kBlock;
        body(block, row % channels, row * inner + offset, std::min(kBlock, inner - offset));
      }
    });
  }
};

/// Checks shapes, types and range, whatever the device. Throws ValueError or TypeError.
ScaledRows check_quantizer_shapes(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                                  std::int64_t qmax, std::optional<std::int64_t> axis, bool binary);

/// Tensors of the CPU: also checks the values of `scale` (positive, finite).
ScaledRows check_quantizer(const char* op, const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin,
                           std::int64_t qmax, std::optional<std::int64_t> axis, bool binary);

using QuantizerCheck = decltype(check_quantizer);

/// The gradient scale of LSQ, 1 / sqrt(values per scale * qmax).
double lsq_gradient_factor(const at::Tensor& x, const ScaledRows& rows, std::int64_t qmax);

kernels::QuantRange quant_range(std::int64_t qmin, std::int64_t qmax, bool binary);

/// x in an order that the kernels can walk: for one scale any dense layout will do, for channels the row-major one.
at::Tensor walkable(const at::Tensor& x, bool per_tensor);

}  // namespace cimq::ops
