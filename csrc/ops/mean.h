// cimq::mean: the mean over some dimensions, summed in one order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace cimq::ops {

/// Calls the operator.
at::Tensor mean(const at::Tensor& x, at::IntArrayRef dim, bool keepdim);

/// The dimensions as numbers in 0 .. rank - 1, ascending; ValueError where they are none.
std::vector<std::int64_t> mean_dims(at::IntArrayRef dims, std::int64_t rank);

/// Shape of the result over `dims` of mean_dims; refuses operands that no device takes.
std::vector<std::int64_t> mean_shape(const at::Tensor& x, const std::vector<std::int64_t>& dims, bool keepdim);

}  // namespace cimq::ops
