#include "kernels/cpu/mvm/crossbar_mvm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "ops/support/checks.h"
#include "ops/support/crossbar_program.h"
#include "ops/support/digital_product.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kMvm.name;
constexpr CacheLimits kCacheLimits{std::size_t{128} << 20, std::size_t{1} << 13};

template <typename T>
void run_batch(const kernels::cpu::CrossbarMvm& mvm, const at::Tensor& x, T* y, std::uint64_t first_access) {
  const std::int64_t inputs = mvm.plan().inputs;
  const std::int64_t outputs = mvm.plan().outputs;
  const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
  // A thread is worth starting for about a million cell operations.
  const std::int64_t work = std::max<std::int64_t>(1, inputs * outputs * mvm.plan().n_x * mvm.plan().n_w);
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / work);
  if (!mvm.splits_batch(x.size(0), at::get_num_threads())) {
    const std::int64_t panel_grain = std::max<std::int64_t>(1, grain * mvm.panels() / x.size(0));
    at::parallel_for(0, mvm.panels(), panel_grain, [&](std::int64_t begin, std::int64_t end) {
      mvm.run_panels(source, x.size(0), {begin, end}, y, first_access);
    });
    return;
  }
  at::parallel_for(0, x.size(0), grain, [&](std::int64_t begin, std::int64_t end) {
    mvm.run(source + begin * inputs, end - begin, y + begin * outputs,
            first_access + static_cast<std::uint64_t>(begin));
  });
}

/// One chip; y [batch, outputs] is int32 or float32 as the plan says.
void run_chip(const CrossbarCall& call, const CrossbarArgs& args, const at::Tensor& x, const CrossbarWeights& weights,
              const at::Tensor& y) {
  static auto& cache = listed_cache<ProgramCache<kernels::cpu::CrossbarMvm>>(kName, kCacheLimits);
  const at::Tensor& w = weights.q;
  kernels::MvmProblem problem{*args.hardware, w.const_data_ptr<std::int8_t>(), w.size(0), w.size(1), args.options};
  if (args.by_reference) {
    const auto* source = static_cast<const std::uint8_t*>(x.const_data_ptr());
    with_results(y, [&](auto* results) {
      kernels::crossbar_mvm_reference(problem, source, x.size(0), results, args.first_access);
    });
    return;
  }
  const auto make = [&](const std::int8_t* bytes) {
    if (!weights.checked) narrowed(kName, "w_q", w, weight_range(args.options.weight_bits));
    problem.w = bytes;
    return std::make_shared<const kernels::cpu::CrossbarMvm>(problem);
  };
  const auto mvm = program_of(cache, call, args, weights, [&](ProgramKey& key) { key.add(w.size(0)); }, make);
  with_results(y, [&](auto* results) { run_batch(*mvm, x, results, args.first_access); });
}

at::Tensor crossbar_mvm_cpu(const at::Tensor& x_q, const at::Tensor& w_q, const CrossbarCall& call) {
  CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  check_mvm_operands(kName, x_q, w_q);
  const auto plan = translate_errors(
      kName, [&] { return kernels::make_mvm_plan(*args.hardware, w_q.size(0), w_q.size(1), args.options); });
  const IntegerRange x_range = activation_range(call.act_bits, call.act_signed);
  const IntegerRange w_range = weight_range(call.weight_bits);
  // Nothing is lost: one product of the integers. One-bit weights have a check of their own, below.
  const bool digital = plan.collapses && !args.by_reference && call.weight_bits > 1 &&
                       !prefers_int8(x_q, w_q, w_q.size(0), x_q.numel() / w_q.size(1) * w_q.size(0)) &&
                       (float_sums_are_exact(w_q.size(1), x_range, w_range) || !kernels::cpu::has_fast_products());
  at::Tensor y;
  if (digital) {
    const at::Tensor x = rows_of(as_floats(kName, "x_q", x_q, x_range));
    y = digital_product(kName, x, as_floats(kName, "w_q", w_q, w_range), x_range, w_range).unsqueeze(0);
  } else {
    const at::Tensor x = rows_of(narrowed(kName, "x_q", x_q, x_range));
    // Weights in training change at every step: keeping them would only fill the cache.
    const bool cached = !w_q.is_floating_point();
    const bool checked = !cached || args.by_reference || w_q.scalar_type() != at::kChar || x.size(0) == 0;
    const CrossbarWeights w{checked ? narrowed(kName, "w_q", w_q, w_range) : w_q.contiguous(), cached, checked};
    y = at::empty({args.different_chips(), x.size(0), w_q.size(0)},
                  x.options().dtype(plan.exact ? at::kInt : at::kFloat));
    translate_errors(kName, [&] {
      if (call.weight_bits == 1 && checked) kernels::check_weights(w.q.const_data_ptr<std::int8_t>(), w.q.numel(), 1);
      for (std::int64_t chip = 0; chip < y.size(0) && x.size(0) > 0; ++chip) {
        args.options.chip = static_cast<std::uint32_t>(chip);
        run_chip(call, args, x, w, y.select(0, chip));
      }
      return true;
    });
  }
  y = y.to(result_type(x_q, w_q, plan.gives_integers()));
  const std::vector<std::int64_t> shape = mvm_shape(args, x_q, w_q);
  return args.stacked ? y.expand({args.chips, -1, -1}).contiguous().view(shape) : y.reshape(shape);
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, crossbar_mvm_cpu(taken.operands[0], taken.operands[1], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kMvm.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kMvm, run>>());
}
