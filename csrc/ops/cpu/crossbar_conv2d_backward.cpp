#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/support/checks.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/operands.h"
#include "ops/support/patches.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kConv2dBackward.name;

/// Runs the matrices of all groups of one chip on patches, a few images at a time.
class ConvBackward {
 public:
  ConvBackward(const PatchGeometry& patches, const CrossbarArgs& args, const at::Tensor& w,
               const WantedGradients& wanted, at::ScalarType type)
      : patches_(patches), wanted_(wanted) {
    const kernels::Conv2dGeometry& g = patches.geometry();
    const std::int64_t outputs = g.out_channels / g.groups;
    const at::Tensor matrix = w.reshape({g.out_channels, g.inputs_per_output()});
    kernels::MvmOptions options = args.options;
    for (std::int64_t group = 0; group < g.groups; ++group) {
      options.first_output = args.options.first_output + group * outputs;
      groups_.emplace_back(*args.hardware, matrix.slice(0, group * outputs, (group + 1) * outputs), options, wanted,
                           type);
    }
  }

  /// dx [N, C, H, W] and dw [out_channels, inputs] are added to.
  void add(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
           std::vector<double>& dlsb, std::uint64_t first_access) const {
    const std::int64_t chunk = patches_.images_at_once();
    const std::int64_t positions = grad.size(2) * grad.size(3);
    for (std::int64_t first = 0; first < x.size(0); first += chunk) {
      const std::int64_t last = std::min(first + chunk, x.size(0));
      for (std::size_t group = 0; group < groups_.size(); ++group) {
        add_group(group, x.slice(0, first, last), grad.slice(0, first, last), wanted_.x ? dx.slice(0, first, last) : dx,
                  dw, dlsb, first_access + static_cast<std::uint64_t>(first * positions));
      }
    }
  }

 private:
  void add_group(std::size_t index, const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx,
                 const at::Tensor& dw, std::vector<double>& dlsb, std::uint64_t first_access) const {
    const kernels::Conv2dGeometry& g = patches_.geometry();
    const auto group = static_cast<std::int64_t>(index);
    const std::int64_t outputs = g.out_channels / g.groups;
    const at::Tensor rows = patches_.gather(x, group);
    const at::Tensor own_grad =
        grad.slice(1, group * outputs, (group + 1) * outputs).permute({0, 2, 3, 1}).reshape({rows.size(0), outputs});
    const at::Tensor drows = at::empty(wanted_.x ? rows.sizes() : at::IntArrayRef{0}, own_grad.options());
    groups_[index].add(rows, own_grad, drows, wanted_.w ? dw.slice(0, group * outputs, (group + 1) * outputs) : dw,
                       dlsb, first_access);
    if (wanted_.x) patches_.scatter_add(drows, group, dx);
  }

  const PatchGeometry& patches_;
  WantedGradients wanted_;
  std::vector<MatrixBackward> groups_;
};

Gradients crossbar_conv2d_backward_cpu(const TakenCall& taken) {
  const at::Tensor& grad = taken.operands[0];
  const at::Tensor& x_q = taken.operands[1];
  const at::Tensor& w_q = taken.operands[2];
  const CrossbarCall& call = taken.call;
  CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  const kernels::Conv2dGeometry g = parse_geometry(kName, x_q, w_q, conv_request(call));
  const PatchGeometry patches(g, x_q.size(2), x_q.size(3));
  std::vector<std::int64_t> shape{x_q.size(0), g.out_channels, g.out_h(x_q.size(2)), g.out_w(x_q.size(3))};
  if (args.stacked) shape.insert(shape.begin(), args.chips);
  check_cpu(kName, "grad", grad);
  const auto type = check_backward(kName, grad, shape, taken);
  const at::Tensor x = narrowed(kName, "x_q", x_q, activation_range(call.act_bits, call.act_signed));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  const WantedGradients want{taken.wanted, args.clip};
  const at::Tensor typed = grad.to(type);
  const at::Tensor upstream = args.stacked ? typed : typed.unsqueeze(0);
  const at::Tensor dx = at::zeros(want.x ? x.sizes() : at::IntArrayRef{0}, typed.options());
  const at::Tensor dw =
      at::zeros(want.w ? at::IntArrayRef{g.out_channels, g.inputs_per_output()} : at::IntArrayRef{0}, typed.options());
  std::vector<double> dlsb(args.options.adc_lsb.size(), 0.0);
  translate_errors(kName, [&] {
    for_each_chip(args, upstream, [&](const at::Tensor& chip_grad) {
      ConvBackward(patches, args, w, want, type).add(x, chip_grad, dx, dw, dlsb, args.first_access);
    });
    return true;
  });
  return {dx, want.w ? dw.view(w_q.sizes()) : dw, step_gradient(grad, taken, dlsb)};
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kConv2dBackward.name, torch::CppFunction::makeFromBoxedFunction<
                                   &boxed_kernel<kConv2dBackward, push_gradients<crossbar_conv2d_backward_cpu>>>());
}
