#include "runtime/steps/step.h"

#include <algorithm>
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

std::unique_ptr<Step> make_step(const StepContext& context, const compiler::Node& node) {
  using compiler::OpKind;
  switch (node.op) {
    case OpKind::kCrossbarConv2d:
    case OpKind::kCrossbarLinear:
      return make_crossbar_step(context, node);
    case OpKind::kConv2dF32:
    case OpKind::kLinearF32:
      return make_dense_step(context, node);
    case OpKind::kMaxPool2d:
    case OpKind::kAvgPool2d:
      return make_pooling_step(context, node);
    case OpKind::kRelu:
    case OpKind::kClamp:
    case OpKind::kAdd:
    case OpKind::kMul:
    case OpKind::kSigmoid:
    case OpKind::kSilu:
    case OpKind::kHardsigmoid:
    case OpKind::kHardswish:
    case OpKind::kAffine:
      return make_elementwise_step(context, node);
    case OpKind::kFlatten:
    case OpKind::kReshape:
    case OpKind::kSlice:
    case OpKind::kPad:
    case OpKind::kCat:
      return make_shape_step(context, node);
  }
  throw Error(message("node '", compiler::shown(node.name), "' has no step"));
}

}  // namespace cimq::runtime
