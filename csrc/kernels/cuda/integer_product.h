// Products of small integers on a CUDA device, exact: what an ideal or lossless converter leaves of a crossbar layer.
// Operands are floats that hold integers. They are narrowed to bytes in the order the tensor cores read them, then
// multiplied by int8 instructions, whose sums of 32 bits are exact in any order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/mapping.h"
#include "kernels/cuda/stream.h"
#include "kernels/plan/conv2d_geometry.h"

namespace cimq::kernels::cuda {

/// Floats [n, channels, height, width] in any order.
struct StridedFloats {
  const float* data = nullptr;
  std::int64_t stride[4] = {};
};

/// What both operands hold. A value that is no integer of its range, give or take 1/1024, is a fault.
struct IntegerRanges {
  IntegerRange x;  ///< within 0..255 or -128..127
  IntegerRange w;  ///< within -128..127
};

/// The shape of a product: a convolution, or matrices as convolutions with one tap of images of one pixel.
struct IntegerShape {
  Conv2dGeometry geometry;  ///< of matrices: inputs are channels
  std::int64_t batch = 0;   ///< images; the rows of a matrix
  std::int64_t h = 1, w = 1;
  std::int64_t matrices = 1;   ///< independent products of this shape, one after another in x, w and y
  bool channels_last = false;  ///< y [batch, out_h, out_w, out_channels], else [batch, out_channels, out_h, out_w]
};

/// y[m] = x[m] . w[m]^T for matrices x [m, rows, inputs] and w [m, outputs, inputs]; y [m, rows, outputs].
IntegerShape matrices_shape(std::int64_t matrices, std::int64_t rows, std::int64_t inputs, std::int64_t outputs);

/// Throws cimq::Error, as `op`, for impossible geometry, and where sums could leave 32 bits.
void check_integer_product(const char* op, const IntegerShape& shape, const IntegerRanges& ranges);

/// Bytes that integer_product needs, at a multiple of 16.
std::int64_t integer_product_scratch(const IntegerShape& shape);

/// Starts y = x * w. Y: float, each sum rounded once, or int32. `faults`, an int of the device that is 0 before,
/// becomes 1 where a value is a fault: floats that it enters are then NaN, others may be, and int32 are unspecified.
/// All pointers are of the device that is current. The caller has called check_integer_product. Throws LaunchError.
template <typename Y>
void integer_product(const char* op, const IntegerShape& shape, const StridedFloats& x, const StridedFloats& w,
                     const IntegerRanges& ranges, std::byte* scratch, int* faults, Y* y, Stream stream);

}  // namespace cimq::kernels::cuda
