#include "ops/support/crossbar_backward.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "ops/support/checks.h"
#include "ops/support/patches.h"

namespace cimq::ops {

at::ScalarType check_backward(const char* op, const at::Tensor& grad, at::IntArrayRef shape, const TakenCall& taken) {
  TORCH_CHECK_VALUE(grad.sizes() == shape && grad.is_floating_point(), op, ": grad must be a floating tensor of shape ",
                    shape, ", got ", describe(grad));
  TORCH_CHECK_VALUE(!taken.wanted.adc_lsb || taken.call.adc_lsb.has_value(), op,
                    ": the gradient of adc_lsb is wanted, but it is not given");
  return grad.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

std::vector<std::int64_t> conv2d_shape(const CrossbarArgs& args, const kernels::Conv2dGeometry& g,
                                       const at::Tensor& x) {
  std::vector<std::int64_t> shape{x.size(0), g.out_channels, g.out_h(x.size(2)), g.out_w(x.size(3))};
  if (args.stacked) shape.insert(shape.begin(), args.chips);
  return shape;
}

namespace {

/// Calls run(args of one chip, gradient of the chip). grad: [chips, ...]. Chips without variation have the same
/// conversions: the sum of their gradients is enough.
template <typename Run>
void for_each_chip(const CrossbarArgs& args, const at::Tensor& grad, const Run& run) {
  if (!args.hardware->varies()) {
    run(args, grad.sum(0));
    return;
  }
  CrossbarArgs of_chip = args;
  for (std::int64_t chip = 0; chip < args.chips; ++chip) {
    of_chip.options.chip = static_cast<std::uint32_t>(chip);
    run(of_chip, grad.select(0, chip));
  }
}

/// Sums of the step's gradient on the device of grad, one for every adc_lsb.
at::Tensor step_sums(const CrossbarArgs& args, const at::Tensor& grad) {
  return at::zeros({static_cast<std::int64_t>(args.options.adc_lsb.size())}, grad.options().dtype(at::kDouble));
}

/// They as a tensor like adc_lsb, or an empty one.
at::Tensor step_gradient(const TakenCall& taken, const at::Tensor& sums) {
  const auto& adc_lsb = taken.call.adc_lsb;
  if (!adc_lsb.has_value()) return at::empty({0}, taken.operands[0].options());
  if (!taken.wanted.adc_lsb) return at::empty({0}, adc_lsb->options());
  return sums.to(adc_lsb->options()).view(adc_lsb->sizes());
}

}  // namespace

Gradients mvm_gradients(const char* op, const CrossbarArgs& args, const TakenCall& taken, at::ScalarType type,
                        const at::Tensor& x, const at::Tensor& w, const ConversionsOfChip& conversions) {
  const WantedGradients want{taken.wanted, args.clip};
  const at::Tensor rows = rows_of(x).unsqueeze(0);
  const at::Tensor upstream = taken.operands[0].to(type).reshape({args.chips, rows.size(1), w.size(0)});
  const at::Tensor dx = at::zeros(want.x ? rows.sizes() : at::IntArrayRef{0}, upstream.options());
  const at::Tensor dw = at::zeros(want.w ? w.sizes() : at::IntArrayRef{0}, upstream.options());
  const at::Tensor of_chip = at::empty_like(dx);
  const at::Tensor dlsb = step_sums(args, upstream);
  translate_errors(op, [&] {
    const kernels::MvmPlan plan = kernels::make_mvm_plan(*args.hardware, w.size(0), w.size(1), args.options);
    for_each_chip(args, upstream, [&](const CrossbarArgs& own, const at::Tensor& grad) {
      const MatrixBackward matrix(plan, own.options, w.unsqueeze(0), want, type, [&] { return conversions(own); });
      matrix.add(rows, grad.unsqueeze(0), of_chip, want.w ? dw.unsqueeze(0) : dw, dlsb, own.first_access);
      if (want.x) dx.add_(of_chip);
    });
    return true;
  });
  return {want.x ? dx.view(x.sizes()) : dx, dw, step_gradient(taken, dlsb)};
}

namespace {

/// Runs the matrices of all groups of one chip on patches, a few images at a time. dx [N, C, H, W] and dw [groups,
/// outputs, inputs] are added to.
void add_images(const MatrixBackward& matrices, const PatchGeometry& patches, const WantedGradients& want,
                const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                const at::Tensor& dlsb, std::uint64_t first_access) {
  const kernels::Conv2dGeometry& g = patches.geometry();
  const std::int64_t positions = grad.size(2) * grad.size(3);
  const std::int64_t chunk = patches.images_at_once();
  for (std::int64_t first = 0; first < x.size(0); first += chunk) {
    const std::int64_t last = std::min(first + chunk, x.size(0));
    const at::Tensor rows = patches.gather(x.slice(0, first, last));
    const at::Tensor own_grad = grad.slice(0, first, last)
                                    .reshape({last - first, g.groups, g.out_channels / g.groups, positions})
                                    .permute({1, 0, 3, 2})
                                    .reshape({g.groups, rows.size(1), g.out_channels / g.groups});
    const at::Tensor drows = at::empty(want.x ? rows.sizes() : at::IntArrayRef{0}, own_grad.options());
    matrices.add(rows, own_grad, drows, dw, dlsb, first_access + static_cast<std::uint64_t>(first * positions));
    if (want.x) patches.scatter_add(drows, dx.slice(0, first, last));
  }
}

}  // namespace

Gradients conv2d_gradients(const char* op, const CrossbarArgs& args, const TakenCall& taken,
                           const kernels::Conv2dGeometry& geometry, at::ScalarType type, const at::Tensor& x,
                           const at::Tensor& w, const ConversionsOfChip& conversions) {
  const WantedGradients want{taken.wanted, args.clip};
  const PatchGeometry patches(geometry, x.size(2), x.size(3));
  const at::Tensor typed = taken.operands[0].to(type);
  const at::Tensor upstream = args.stacked ? typed : typed.unsqueeze(0);
  const std::int64_t outputs = geometry.out_channels / geometry.groups;
  const at::Tensor matrices = w.reshape({geometry.groups, outputs, geometry.inputs_per_output()});
  const at::Tensor dx = at::zeros(want.x ? x.sizes() : at::IntArrayRef{0}, typed.options());
  const at::Tensor dw = at::zeros(want.w ? matrices.sizes() : at::IntArrayRef{0}, typed.options());
  const at::Tensor dlsb = step_sums(args, typed);
  translate_errors(op, [&] {
    const kernels::MvmPlan plan = kernels::make_mvm_plan(*args.hardware, outputs, matrices.size(2), args.options);
    for_each_chip(args, upstream, [&](const CrossbarArgs& own, const at::Tensor& grad) {
      const MatrixBackward backward(plan, own.options, matrices, want, type, [&] { return conversions(own); });
      add_images(backward, patches, want, x, grad, dx, dw, dlsb, own.first_access);
    });
    return true;
  });
  return {dx, want.w ? dw.view(w.sizes()) : dw, step_gradient(taken, dlsb)};
}

}  // namespace cimq::ops
