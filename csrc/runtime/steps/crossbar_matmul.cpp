// crossbar_matmul: a product of two values. Both are quantised; crossbars hold the second, written anew for every
// sample, a matrix after the other. The raw result is Y without the correction of a zero point, as of other layers.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/error.h"
#include "common/mapping.h"
#include "common/saturating.h"
#include "compiler/frontends/strict_json.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "runtime/parallel.h"
#include "runtime/steps/crossbar_tensors.h"
#include "runtime/steps/crossbar_work.h"
#include "runtime/steps/quantizer.h"
#include "runtime/steps/raw_result.h"
#include "runtime/steps/rescale.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;

class CrossbarMatmulStep final : public Step {
 public:
  CrossbarMatmulStep(Hardware hardware, const compiler::CrossbarLayer& layer, Quantizer quantizer,
                     OperandQuantizer operand_quantizer, OperandRescale rescale, kernels::MvmOptions options,
                     const kernels::cpu::CrossbarMvm& like)
      : hardware_(std::move(hardware)),
        facts_(layer),
        quantizer_(std::move(quantizer)),
        operand_quantizer_(std::move(operand_quantizer)),
        rescale_(rescale),
        options_(std::move(options)),
        exact_(like.plan().exact),
        gives_integers_(like.plan().gives_integers()),
        matrix_bytes_(
            saturating_sum(static_cast<std::uint64_t>(kernels::cpu::programming_bytes(hardware_, like.plan())),
                           static_cast<std::uint64_t>(like.scratch_bytes(layer.invocations)))) {}

  bool exact() const override { return gives_integers_; }

  /// Both quantised inputs, the raw result, and what the matrices that are there at once take.
  std::uint64_t working_bytes(std::int64_t batch, int threads) const override {
    const std::int64_t matrices = facts_.repeats;
    // Values have at most 2^28 elements per sample.
    const std::int64_t each = in_elements() + operand_elements() + out_elements() * std::int64_t{sizeof(float)};
    const auto at_once = static_cast<std::uint64_t>(std::min<std::int64_t>(threads, batch * matrices));
    return saturating_sum(saturating_product(static_cast<std::uint64_t>(each), batch, matrices),
                          saturating_product(at_once, matrix_bytes_));
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult* raw,
           const StepRun& run) const override {
    const std::int64_t matrices = batch * facts_.repeats;
    const std::vector<std::uint8_t> x = quantizer_(inputs[0], matrices * in_elements());
    const std::vector<std::int8_t> w = operand_quantizer_(inputs[1], matrices * operand_elements());
    const std::int64_t results = matrices * out_elements();
    if (exact_) {
      std::vector<std::int32_t> own;
      std::int32_t* y = destination(own, raw == nullptr ? nullptr : raw->integers, results);
      multiply(x, w, matrices, y, out, run);
      if (raw != nullptr && raw->floats != nullptr) std::copy_n(y, results, raw->floats);
    } else {
      std::vector<float> own;
      multiply(x, w, matrices, destination(own, raw == nullptr ? nullptr : raw->floats, results), out, run);
    }
  }

 private:
  // Of one matrix.
  std::int64_t in_elements() const { return facts_.invocations * facts_.inputs_per_output; }
  std::int64_t operand_elements() const { return facts_.outputs * facts_.inputs_per_output; }
  std::int64_t out_elements() const { return facts_.invocations * facts_.outputs; }

  template <typename T>
  void multiply(const std::vector<std::uint8_t>& x, const std::vector<std::int8_t>& w, std::int64_t matrices, T* y,
                float* out, const StepRun& run) const {
    parallel_for(matrices, run.threads, [&](std::int64_t number) {
      const std::int64_t repeat = number % facts_.repeats;
      const std::int64_t sample = run.first_sample + number / facts_.repeats;
      kernels::MvmOptions options = options_;
      options.first_output = repeat * facts_.outputs;  // matrices have cells of their own, the same for every sample
      const std::int8_t* matrix = w.data() + number * operand_elements();
      const kernels::cpu::CrossbarMvm mvm({hardware_, matrix, facts_.outputs, facts_.inputs_per_output, options});
      T* const product = y + number * out_elements();
      mvm.run(x.data() + number * in_elements(), facts_.invocations, product,
              static_cast<std::uint64_t>(sample * facts_.invocations));
      rescale_(product, matrix, facts_.invocations, out + number * out_elements());
    });
  }

  Hardware hardware_;
  compiler::CrossbarLayer facts_;
  Quantizer quantizer_;
  OperandQuantizer operand_quantizer_;
  OperandRescale rescale_;
  kernels::MvmOptions options_;
  bool exact_, gives_integers_;
  std::uint64_t matrix_bytes_;  // of one, while it is written and used
};

std::unique_ptr<Step> make_crossbar_matmul(const StepContext& context, const Node& node) {
  const compiler::CrossbarLayer& layer = compiler::crossbar_of(node);
  OperandTensors tensors = read_operand_tensors(context, node);
  try {
    const Hardware hardware = compiler::hardware_of(context.hardware, layer);
    const kernels::MvmPlan plan =
        kernels::make_mvm_plan(hardware, layer.outputs, layer.inputs_per_output, tensors.options);
    context.budget.check_working(node, static_cast<std::uint64_t>(kernels::cpu::programming_bytes(hardware, plan)));
    count_passes(context, node, plan);
    OperandRescale rescale(layer, tensors.multiplier);
    // What a matrix takes does not depend on its values.
    const std::vector<std::int8_t> any(static_cast<std::size_t>(layer.outputs * layer.inputs_per_output), 1);
    const kernels::cpu::CrossbarMvm like(
        {hardware, any.data(), layer.outputs, layer.inputs_per_output, tensors.options});
    return std::make_unique<CrossbarMatmulStep>(hardware, layer, Quantizer(node.name, tensors.x_scale, layer),
                                                OperandQuantizer(node.name, tensors.w_scale, layer.weight_bits),
                                                rescale, std::move(tensors.options), like);
  } catch (const Error& error) {
    throw Error(message("node '", compiler::shown(node.name), "': ", error.what()));
  }
}

}  // namespace

std::span<const StepRow> crossbar_matmul_steps() {
  static constexpr std::array kSteps = {StepRow{compiler::OpKind::kCrossbarMatmul, make_crossbar_matmul}};
  return kSteps;
}

}  // namespace cimq::runtime
