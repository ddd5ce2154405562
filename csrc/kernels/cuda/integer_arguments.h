// What the kernels of integer products are told, by value. Made by integer_product.cu.
#pragma once

#include <cstdint>

#include "kernels/cuda/integer_product.h"

namespace cimq::kernels::cuda {

constexpr int kPieceBytes = 16;  ///< what is copied at once: so many channels of one pixel

/// Floats of one operand on their way to bytes [n, pixels, groups, pieces of 16 channels]: channels beyond a group's
/// last are zeros.
struct NarrowArguments {
  StridedFloats from;
  std::int64_t pixels;  ///< height * width
  std::int32_t width;
  std::int32_t groups;
  std::int32_t group_channels;
  std::int32_t pieces;  ///< of a group
  std::int64_t count;   ///< of all pieces
  float lo;
  float hi;
  std::uint8_t* to;
  int* faults;
};

/// The product. Row r of a group is position r % positions of image r / positions.
struct ProductArguments {
  const std::uint8_t* x;
  const std::uint8_t* w;
  const int* faults;
  std::int32_t groups;
  std::int32_t rows;
  std::int32_t outputs;
  std::int32_t row_blocks;
  std::int32_t line_blocks;

  std::int32_t positions;
  std::int32_t out_width;
  std::int32_t height;
  std::int32_t width;
  std::int32_t stride_y, stride_x;
  std::int32_t pad_top, pad_left;
  std::int32_t dilation_y, dilation_x;
  std::int32_t kernel_w;

  std::int32_t pieces_of_tap;
  std::int32_t pieces;  ///< of all taps
  // Bytes from one to the next.
  std::int64_t x_group, x_image, x_row, x_pixel;
  std::int64_t w_group;
  // Results from one to the next.
  std::int64_t y_group, y_image, y_position, y_output;
};

}  // namespace cimq::kernels::cuda
