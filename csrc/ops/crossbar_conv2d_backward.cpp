// cimq::crossbar_conv2d_backward: the gradients of crossbar_conv2d that need to know what the converters did.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/support/checks.h"
#include "ops/support/conv_args.h"
#include "ops/support/crossbar_backward.h"
#include "ops/support/operands.h"
#include "ops/support/patches.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "crossbar_conv2d_backward";

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

}  // namespace

Gradients crossbar_conv2d_backward_cpu(const at::Tensor& grad, const at::Tensor& x_q, const at::Tensor& w_q,
                                       c10::string_view hardware, std::int64_t weight_bits, std::int64_t act_bits,
                                       bool act_signed, at::IntArrayRef stride, at::IntArrayRef padding,
                                       at::IntArrayRef dilation, std::int64_t groups, std::optional<std::int64_t> chips,
                                       std::int64_t seed, std::int64_t layer, const std::optional<at::Tensor>& adc_lo,
                                       const std::optional<at::Tensor>& adc_lsb, std::int64_t first_access,
                                       c10::string_view adc_grad, std::array<bool, 3> wanted) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kName, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed,
                                            layer, adc_lo, adc_lsb, "auto", first_access, adc_grad});
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  const kernels::Conv2dGeometry g = parse_geometry(kName, x_q, w_q, {stride, padding, dilation, groups});
  const PatchGeometry patches(g, x_q.size(2), x_q.size(3));
  std::vector<std::int64_t> shape{x_q.size(0), g.out_channels, g.out_h(x_q.size(2)), g.out_w(x_q.size(3))};
  const std::vector<std::int64_t> one_chip = shape;
  if (args.stacked) shape.insert(shape.begin(), args.chips);
  const auto type = check_backward(kName, grad, shape, wanted, adc_lsb);
  const at::Tensor x = narrowed(kName, "x_q", x_q, activation_range(act_bits, act_signed));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(weight_bits));
  const WantedGradients want{wanted[0], wanted[1], wanted[2], args.clip};
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
  return {dx, want.w ? dw.view(w_q.sizes()) : dw, step_gradient(grad, adc_lsb, want.lsb, dlsb)};
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "crossbar_conv2d_backward(Tensor grad, Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, "
      "bool act_signed=False, int[] stride=[1, 1], int[] padding=[0, 0, 0, 0], int[] dilation=[1, 1], int groups=1, "
      "int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, "
      "int first_access=0, str adc_grad=\"identity\", bool[3] wanted=[True, True, True]) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("crossbar_conv2d_backward", TORCH_FN(cimq::ops::crossbar_conv2d_backward_cpu));
}

// There are no second derivatives of a straight-through estimator.
TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("crossbar_conv2d_backward", torch::autograd::autogradNotImplementedFallback());
}
