// cimq::crossbar_mvm_conversions and cimq::crossbar_conv2d_conversions: what the converters of a layer do with given
// inputs, counted. The numbers behind cimq.ops.crossbar_diagnostics.
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "common/rounding.h"
#include "kernels/cpu/convert/conversions.h"
#include "ops/support/checks.h"
#include "ops/support/conv_args.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/operands.h"
#include "ops/support/patches.h"

namespace cimq::ops {
namespace {

constexpr const char* kMvm = "crossbar_mvm_conversions";
constexpr const char* kConv = "crossbar_conv2d_conversions";
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

void check_converter(const char* op, const Hardware& hardware) {
  TORCH_CHECK_VALUE(hardware.adc.bits.has_value(), op,
                    ": needs a converter, but adc.bits of the hardware is null (ideal: the code is the current)");
}

Conversions mvm_conversions(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                            std::int64_t weight_bits, std::int64_t act_bits, bool act_signed,
                            std::optional<std::int64_t> chips, std::int64_t seed, std::int64_t layer,
                            const std::optional<at::Tensor>& adc_lo, const std::optional<at::Tensor>& adc_lsb,
                            std::int64_t first_access) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kMvm, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed, layer,
                                           adc_lo, adc_lsb, "sliced", first_access, "identity"});
  check_converter(kMvm, *args.hardware);
  check_mvm_operands(kMvm, x_q, w_q);
  const at::Tensor x = rows_of(narrowed(kMvm, "x_q", x_q, activation_range(act_bits, act_signed)));
  const at::Tensor w = narrowed(kMvm, "w_q", w_q, weight_range(weight_bits));
  return translate_errors(kMvm, [&] {
    Counter counter;
    const std::int64_t computed = args.hardware->varies() ? args.chips : 1;
    for (std::int64_t chip = 0; chip < computed; ++chip) {
      args.options.chip = static_cast<std::uint32_t>(chip);
      const kernels::MvmProblem problem{*args.hardware, w.const_data_ptr<std::int8_t>(), w.size(0), w.size(1),
                                        args.options};
      counter.add(kernels::cpu::CrossbarMvm(problem), x, args.first_access);
    }
    return counter.result(kernels::make_mvm_plan(*args.hardware, w.size(0), w.size(1), args.options));
  });
}

Conversions conv2d_conversions(const at::Tensor& x_q, const at::Tensor& w_q, c10::string_view hardware,
                               std::int64_t weight_bits, std::int64_t act_bits, bool act_signed, at::IntArrayRef stride,
                               at::IntArrayRef padding, at::IntArrayRef dilation, std::int64_t groups,
                               std::optional<std::int64_t> chips, std::int64_t seed, std::int64_t layer,
                               const std::optional<at::Tensor>& adc_lo, const std::optional<at::Tensor>& adc_lsb,
                               std::int64_t first_access) {
  const std::string json(hardware);
  CrossbarArgs args = parse_request(kConv, {json, outputs_of(w_q), weight_bits, act_bits, act_signed, chips, seed,
                                            layer, adc_lo, adc_lsb, "sliced", first_access, "identity"});
  check_converter(kConv, *args.hardware);
  check_cpu(kConv, "x_q", x_q);
  check_cpu(kConv, "w_q", w_q);
  const kernels::Conv2dGeometry g = parse_geometry(kConv, x_q, w_q, {stride, padding, dilation, groups});
  const PatchGeometry patches(g, x_q.size(2), x_q.size(3));
  const at::Tensor x = narrowed(kConv, "x_q", x_q, activation_range(act_bits, act_signed));
  const at::Tensor w = narrowed(kConv, "w_q", w_q, weight_range(weight_bits));
  const std::int64_t outputs = g.out_channels / g.groups;
  return translate_errors(kConv, [&] {
    Counter counter;
    const std::int64_t computed = args.hardware->varies() ? args.chips : 1;
    for (std::int64_t chip = 0; chip < computed; ++chip) {
      args.options.chip = static_cast<std::uint32_t>(chip);
      for (std::int64_t group = 0; group < g.groups; ++group) {
        args.options.first_output = group * outputs;
        const auto* weights = w.const_data_ptr<std::int8_t>() + group * outputs * g.inputs_per_output();
        const kernels::cpu::CrossbarMvm mvm({*args.hardware, weights, outputs, g.inputs_per_output(), args.options});
        const std::int64_t chunk = patches.images_at_once();
        const std::int64_t positions = g.out_h(x.size(2)) * g.out_w(x.size(3));
        for (std::int64_t first = 0; first < x.size(0); first += chunk) {
          counter.add(mvm, patches.gather(x.slice(0, first, std::min(first + chunk, x.size(0))), group),
                      args.first_access + static_cast<std::uint64_t>(first * positions));
        }
      }
    }
    return counter.result(kernels::make_mvm_plan(*args.hardware, outputs, g.inputs_per_output(), args.options));
  });
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "crossbar_mvm_conversions(Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, "
      "bool act_signed=False, int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, "
      "int first_access=0) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "crossbar_conv2d_conversions(Tensor x_q, Tensor w_q, str hardware, int weight_bits, int act_bits, "
      "bool act_signed=False, int[] stride=[1, 1], int[] padding=[0, 0, 0, 0], int[] dilation=[1, 1], int groups=1, "
      "int? chips=None, int seed=0, int layer=0, Tensor? adc_lo=None, Tensor? adc_lsb=None, "
      "int first_access=0) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) {
  m.impl("crossbar_mvm_conversions", TORCH_FN(cimq::ops::mvm_conversions));
  m.impl("crossbar_conv2d_conversions", TORCH_FN(cimq::ops::conv2d_conversions));
}

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl("crossbar_mvm_conversions", torch::autograd::autogradNotImplementedFallback());
  m.impl("crossbar_conv2d_conversions", torch::autograd::autogradNotImplementedFallback());
}
