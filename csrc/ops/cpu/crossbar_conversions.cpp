#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "common/rounding.h"
#include "kernels/cpu/convert/conversions.h"
#include "kernels/crossbar_conv2d.h"
#include "ops/support/checks.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/operands.h"
#include "ops/support/patches.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kRowsAtOnce = 256;  // fixed, so that sums have one order for every number of threads

/// codes [n_w, levels], clipped [n_w, 2] (low, high), currents [n_w, 2] (lowest, highest), squared error [n_w].
using Conversions = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// Adds up the counters of any number of matrices, chips and batches.
class Counter {
 public:
  void add(const kernels::cpu::CrossbarMvm& mvm, const at::Tensor& x, std::uint64_t first_access) {
    const std::int64_t rows = x.size(0);
    const auto* bytes = static_cast<const std::uint8_t*>(x.const_data_ptr());
    std::vector<std::vector<kernels::SliceConversions>> parts(static_cast<std::size_t>(ceil_div(rows, kRowsAtOnce)));
    at::parallel_for(0, static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t part = begin; part < end; ++part) {
        const std::int64_t first = part * kRowsAtOnce;
        parts[static_cast<std::size_t>(part)] =
            kernels::cpu::count_conversions(mvm, bytes + first * mvm.plan().inputs, std::min(kRowsAtOnce, rows - first),
                                            first_access + static_cast<std::uint64_t>(first));
      }
    });
    for (const auto& part : parts) add_part(part);
  }

  /// `plan`: of any of the matrices.
  Conversions result(const kernels::MvmPlan& plan) const {
    const at::Tensor codes = at::zeros({plan.n_w, plan.levels}, at::kLong);
    const at::Tensor clipped = at::zeros({plan.n_w, 2}, at::kLong);
    const at::Tensor currents = at::zeros({plan.n_w, 2}, at::kLong);
    const at::Tensor error = at::zeros({plan.n_w}, at::kDouble);
    for (std::size_t s = 0; s < total_.size(); ++s) {
      const kernels::SliceConversions& slice = total_[s];
      std::copy(slice.codes.begin(), slice.codes.end(),
                codes.mutable_data_ptr<std::int64_t>() + static_cast<std::int64_t>(s) * plan.levels);
      clipped.mutable_data_ptr<std::int64_t>()[2 * s] = slice.clipped_low;
      clipped.mutable_data_ptr<std::int64_t>()[2 * s + 1] = slice.clipped_high;
      currents.mutable_data_ptr<std::int64_t>()[2 * s] = slice.lowest;
      currents.mutable_data_ptr<std::int64_t>()[2 * s + 1] = slice.highest;
      error.mutable_data_ptr<double>()[s] = slice.squared_error;
    }
    return {codes, clipped, currents, error};
  }

 private:
  void add_part(const std::vector<kernels::SliceConversions>& part) {
    if (total_.empty()) {
      total_ = part;
      return;
    }
    for (std::size_t s = 0; s < part.size(); ++s) {
      kernels::SliceConversions& sum = total_[s];
      for (std::size_t code = 0; code < sum.codes.size(); ++code) sum.codes[code] += part[s].codes[code];
      sum.clipped_low += part[s].clipped_low;
      sum.clipped_high += part[s].clipped_high;
      sum.lowest = std::min(sum.lowest, part[s].lowest);
      sum.highest = std::max(sum.highest, part[s].highest);
      sum.squared_error += part[s].squared_error;
    }
  }

  std::vector<kernels::SliceConversions> total_;
};

Conversions mvm_conversions(const at::Tensor& x_q, const at::Tensor& w_q, CrossbarCall call) {
  constexpr const char* kName = kMvmConversions.name;
  const CrossbarArgs args = parse_conversions(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  check_mvm_operands(kName, x_q, w_q);
  const at::Tensor x = rows_of(narrowed(kName, "x_q", x_q, activation_range(call.act_bits, call.act_signed)));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  return translate_errors(kName, [&] {
    Counter counter;
    kernels::MvmProblem problem{*args.hardware, w.const_data_ptr<std::int8_t>(), w.size(0), w.size(1), args.options};
    for (std::int64_t chip = 0; chip < args.different_chips(); ++chip) {
      problem.options.chip = static_cast<std::uint32_t>(chip);
      counter.add(kernels::cpu::CrossbarMvm(problem), x, args.first_access);
    }
    return counter.result(problem.plan());
  });
}

Conversions conv2d_conversions(const at::Tensor& x_q, const at::Tensor& w_q, CrossbarCall call) {
  constexpr const char* kName = kConv2dConversions.name;
  const CrossbarArgs args = parse_conversions(kName, call, outputs_of(w_q));
  check_cpu(kName, "x_q", x_q);
  check_cpu(kName, "w_q", w_q);
  const kernels::Conv2dGeometry g = parse_geometry(kName, x_q, w_q, conv_request(call));
  const PatchGeometry patches(g, x_q.size(2), x_q.size(3));
  const at::Tensor x = narrowed(kName, "x_q", x_q, activation_range(call.act_bits, call.act_signed));
  const at::Tensor w = narrowed(kName, "w_q", w_q, weight_range(call.weight_bits));
  return translate_errors(kName, [&] {
    Counter counter;
    kernels::Conv2dProblem problem{*args.hardware, w.const_data_ptr<std::int8_t>(), g, args.options};
    for (std::int64_t chip = 0; chip < args.different_chips(); ++chip) {
      problem.options.chip = static_cast<std::uint32_t>(chip);
      std::vector<kernels::cpu::CrossbarMvm> groups;
      groups.reserve(static_cast<std::size_t>(g.groups));
      for (std::int64_t group = 0; group < g.groups; ++group) groups.emplace_back(problem.group(group));
      const std::int64_t chunk = patches.images_at_once();
      const std::int64_t positions = g.out_h(x.size(2)) * g.out_w(x.size(3));
      for (std::int64_t first = 0; first < x.size(0); first += chunk) {
        const at::Tensor rows = patches.gather(x.slice(0, first, std::min(first + chunk, x.size(0))));
        for (std::size_t group = 0; group < groups.size(); ++group) {
          counter.add(groups[group], rows.select(0, static_cast<std::int64_t>(group)),
                      args.first_access + static_cast<std::uint64_t>(first * positions));
        }
      }
    }
    return counter.result(problem.group(0).plan());
  });
}

/// For either operator.
template <Conversions (*kRun)(const at::Tensor&, const at::Tensor&, CrossbarCall)>
void run(const TakenCall& taken, torch::jit::Stack& results) {
  auto [codes, clipped, currents, error] = kRun(taken.operands[0], taken.operands[1], taken.call);
  torch::jit::push(results, codes, clipped, currents, error);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  using namespace cimq::ops;
  m.impl(kMvmConversions.name,
         torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kMvmConversions, run<mvm_conversions>>>());
  m.impl(kConv2dConversions.name,
         torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kConv2dConversions, run<conv2d_conversions>>>());
}
