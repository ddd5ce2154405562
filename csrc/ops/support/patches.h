// Patches of images as rows of a convolution's matrices, for the operators that look at conversions one by one.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/plan/conv2d_geometry.h"

namespace cimq::ops {

class PatchGeometry {
 public:
  PatchGeometry(const kernels::Conv2dGeometry& geometry, std::int64_t h, std::int64_t w);

  const kernels::Conv2dGeometry& geometry() const { return g_; }
  /// Images whose patches together stay small.
  std::int64_t images_at_once() const;
  /// Bytes [n, C, H, W] -> contiguous bytes [groups, n * out_h * out_w, inputs], on the device of x.
  at::Tensor gather(const at::Tensor& x) const;
  /// The transpose: rows [groups, n * out_h * out_w, inputs] are added where gather took them from.
  void scatter_add(const at::Tensor& rows, const at::Tensor& dx) const;

 private:
  kernels::Conv2dGeometry g_;
  std::int64_t h_;
  std::int64_t w_;
};

}  // namespace cimq::ops
