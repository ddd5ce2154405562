#include "kernels/cpu/mvm/crossbar_conv2d.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/support/checks.h"
#include "ops/support/crossbar_program.h"
#include "ops/support/digital_product.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kConv2d.name;
constexpr CacheLimits kCacheLimits{std::size_t{128} << 20, std::size_t{1} << 13};

template <typename T>
void run_rows(const kernels::cpu::CrossbarConv2d& conv, const at::Tensor& x, T* y, std::uint64_t first_access) {
  const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
  const kernels::Conv2dGeometry& g = conv.geometry();
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  const kernels::MvmPlan& plan = conv.plan();
  const std::int64_t work =
      std::max<std::int64_t>(1, g.out_w(w) * g.out_channels * g.inputs_per_output() * plan.n_x * plan.n_w);
  // A thread is worth starting for about a million cell operations.
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / work);
  at::parallel_for(0, x.size(0) * g.out_h(h), grain, [&](std::int64_t begin, std::int64_t end) {
    conv.run_rows(source, h, w, begin, end, y, first_access);
  });
}

/// One chip; y is int32 or float32 as the plan says.
void run_chip(const CrossbarCall& call, const CrossbarArgs& args, const kernels::Conv2dGeometry& geometry,
              const at::Tensor& x, const CrossbarWeights& weights, const at::Tensor& y) {
  static auto& cache = listed_cache<ProgramCache<kernels::cpu::CrossbarConv2d>>(kName, kCacheLimits);
  kernels::Conv2dProblem problem{*args.hardware, weights.q.const_data_ptr<std::int8_t>(), geometry, args.options};
  if (args.by_reference) {
    const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
    with_results(y, [&](auto* results) {
      kernels::crossbar_conv2d_reference(problem, source, x.size(0), x.size(2), x.size(3), results, args.first_access);
    });
    return;
  }
  const auto make = [&](const std::int8_t* bytes) {
    problem.w = bytes;
    return std::make_shared<const kernels::cpu::CrossbarConv2d>(problem);
  };
  const auto conv = program_of(cache, call, args, weights, [&](ProgramKey& key) { key.add(geometry); }, make);
  with_results(y, [&](auto* results) { run_rows(*conv, x, results, args.first_access); });
}

at::Tensor crossbar_conv2d_cpu(const at::Tensor& x_q, const at::Tensor& w_q, const CrossbarCall& call) {
  CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  const kernels::Conv2dGeometry geometry = parse_geometry(kName, x_q, w_q, conv_request(call));
  const std::int64_t group_outputs = geometry.out_channels / geometry.groups;
  const auto plan = translate_errors(kName, [&] {
    return kernels::make_mvm_plan(*args.hardware, group_outputs, geometry.inputs_per_output(), args.options);
  });
  const IntegerRange x_range = activation_range(call.act_bits, call.act_signed);
  const IntegerRange w_range = weight_range(call.weight_bits);
  const std::int64_t results =
      x_q.size(0) * geometry.out_channels * geometry.out_h(x_q.size(2)) * geometry.out_w(x_q.size(3));
  std::optional<at::Tensor> digital;
  // Nothing is lost: one convolution of the integers. One-bit weights have a check of their own, below.
  if (plan.collapses && !args.by_reference && call.weight_bits > 1 && !prefers_int8(x_q, w_q, group_outputs, results) &&
      float_sums_are_exact(geometry.inputs_per_output(), x_range, w_range)) {
    digital = digital_conv2d(kName, as_floats(kName, "x_q", x_q, x_range), as_floats(kName, "w_q", w_q, w_range),
                             conv_request(call), x_range, w_range);
  }
  at::Tensor y;
  if (digital) {
    y = digital->unsqueeze(0);
  } else {
    const at::Tensor x = narrowed(kName, "x_q", x_q, x_range);
    // Weights in training change at every step: keeping them would only fill the cache.
    const CrossbarWeights w{narrowed(kName, "w_q", w_q, w_range), !w_q.is_floating_point(), true};
    y = at::empty(
        {args.different_chips(), x.size(0), w.q.size(0), geometry.out_h(x.size(2)), geometry.out_w(x.size(3))},
        x.options().dtype(plan.exact ? at::kInt : at::kFloat));
    translate_errors(kName, [&] {
      if (call.weight_bits == 1) kernels::check_weights(w.q.const_data_ptr<std::int8_t>(), w.q.numel(), 1);  // not 0
      for (std::int64_t chip = 0; chip < y.size(0) && x.size(0) > 0; ++chip) {
        args.options.chip = static_cast<std::uint32_t>(chip);
        run_chip(call, args, geometry, x, w, y.select(0, chip));
      }
      return true;
    });
  }
  y = y.to(result_type(x_q, w_q, plan.gives_integers()));
  return args.stacked ? y.expand({args.chips, -1, -1, -1, -1}).contiguous() : y.squeeze(0);
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, crossbar_conv2d_cpu(taken.operands[0], taken.operands[1], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kConv2d.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kConv2d, run>>());
}
