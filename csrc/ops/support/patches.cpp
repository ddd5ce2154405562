#include "ops/support/patches.h"

#include <ATen/ops/col2im.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/im2col.h>

#include <algorithm>
#include <vector>

namespace cimq::ops {
namespace {

constexpr std::int64_t kPatchValues = std::int64_t{1} << 23;

}  // namespace

PatchGeometry::PatchGeometry(const kernels::Conv2dGeometry& geometry, std::int64_t h, std::int64_t w)
    : g_(geometry), h_(h), w_(w) {}

std::int64_t PatchGeometry::images_at_once() const {
  return std::max<std::int64_t>(1, kPatchValues / (g_.out_h(h_) * g_.out_w(w_) * g_.inputs_per_output() * g_.groups));
}

at::Tensor PatchGeometry::gather(const at::Tensor& x) const {
  const at::Tensor padded =
      at::constant_pad_nd(x.to(at::kFloat), {g_.pad_left, g_.pad_right, g_.pad_top, g_.pad_bottom}, 0);
  const at::Tensor columns = at::im2col(padded, {g_.kernel_h, g_.kernel_w}, {g_.dilation_h, g_.dilation_w}, {0, 0},
                                        {g_.stride_h, g_.stride_w});  // [n, groups * inputs, positions]
  return columns.to(x.scalar_type())
      .view({x.size(0), g_.groups, g_.inputs_per_output(), columns.size(2)})
      .permute({1, 0, 3, 2})
      .contiguous()  // what reshape alone would not promise
      .view({g_.groups, x.size(0) * columns.size(2), g_.inputs_per_output()});
}

void PatchGeometry::scatter_add(const at::Tensor& rows, const at::Tensor& dx) const {
  const std::int64_t positions = g_.out_h(h_) * g_.out_w(w_);
  const at::Tensor columns = rows.view({g_.groups, dx.size(0), positions, g_.inputs_per_output()})
                                 .permute({1, 0, 3, 2})
                                 .reshape({dx.size(0), g_.groups * g_.inputs_per_output(), positions});
  const at::Tensor padded =
      at::col2im(columns, {h_ + g_.pad_top + g_.pad_bottom, w_ + g_.pad_left + g_.pad_right},
                 {g_.kernel_h, g_.kernel_w}, {g_.dilation_h, g_.dilation_w}, {0, 0}, {g_.stride_h, g_.stride_w});
  dx.add_(padded.slice(2, g_.pad_top, g_.pad_top + h_).slice(3, g_.pad_left, g_.pad_left + w_));
}

}  // namespace cimq::ops
