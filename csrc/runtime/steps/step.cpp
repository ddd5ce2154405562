#include "runtime/steps/step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "common/error.h"
#include "compiler/frontends/strict_json.h"
#include "runtime/tensor.h"

namespace cimq::runtime {

template <typename T>
std::vector<T> tensor_of(const StepContext& context, const compiler::Node& node, const char* role,
                         const compiler::Shape& shape) {
  const std::string& key = node.tensors.at(role);
  const TensorView& view = context.weights.at(key);
  check(view.shape == shape, "weights.safetensors: '", compiler::shown(key), "' of node '", compiler::shown(node.name),
        "' must have shape ", shape_text(shape), ", got ", shape_text(view.shape));
  context.budget.keep(node, view.bytes.size());
  std::vector<T> values = context.weights.values<T>(key);
  if constexpr (std::is_floating_point_v<T>) {
    check(std::all_of(values.begin(), values.end(), [](T v) { return std::isfinite(v); }), "weights.safetensors: '",
          compiler::shown(key), "' of node '", compiler::shown(node.name), "' must be finite");
  }
  return values;
}

template std::vector<float> tensor_of(const StepContext&, const compiler::Node&, const char*, const compiler::Shape&);
template std::vector<double> tensor_of(const StepContext&, const compiler::Node&, const char*, const compiler::Shape&);
template std::vector<std::int8_t> tensor_of(const StepContext&, const compiler::Node&, const char*,
                                            const compiler::Shape&);
template std::vector<std::int32_t> tensor_of(const StepContext&, const compiler::Node&, const char*,
                                             const compiler::Shape&);

namespace {

std::span<const StepRow> crossbar_steps() {
  static constexpr std::array kSteps = {StepRow{compiler::OpKind::kCrossbarConv2d, make_crossbar_step},
                                        StepRow{compiler::OpKind::kCrossbarLinear, make_crossbar_step}};
  return kSteps;
}

/// Null for an operation without a step.
StepMaker maker_of(compiler::OpKind op) {
  for (const auto steps :
       {crossbar_steps(), crossbar_matmul_steps(), dense_steps(), pooling_steps(), elementwise_steps(), binary_steps(),
        normalization_steps(), shape_steps(), resize_steps(), border_steps()}) {
    const auto found = std::ranges::find(steps, op, &StepRow::op);
    if (found != steps.end()) return found->make;
  }
  return nullptr;
}

}  // namespace

bool has_step(compiler::OpKind op) { return maker_of(op) != nullptr; }

std::unique_ptr<Step> make_step(const StepContext& context, const compiler::Node& node) {
  const StepMaker make = maker_of(node.op);
  check(make != nullptr, "layers.json: node '", compiler::shown(node.name), "' (", compiler::name_of(node.op),
        ") has no step");
  return make(context, node);
}

}  // namespace cimq::runtime
