#include "runtime/steps/crossbar_tensors.h"

#include "common/error.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::runtime {
namespace {

using compiler::CrossbarLayer;
using compiler::Node;
using compiler::Shape;

/// One range per weight slice, or since version 1.2 one per slice and output; the kernels compare the number of slices.
void check_ranges(const StepContext& context, const Node& node, const Shape& shape) {
  const std::int64_t outputs = compiler::is_conv(node.op) ? node.shape[0] : node.shape.back();
  // Columns that are written anew have no ranges of their own.
  const bool columns = shape.size() == 2 && !compiler::writes_operand(node.op);
  check(shape.size() == 1 || (columns && shape[1] == outputs), "weights.safetensors: adc_lsb of node '",
        compiler::shown(node.name), "' must be [slices] or [slices, ", outputs, "]");
  check(node.tensors.contains("adc_lo") && context.weights.at(node.tensors.at("adc_lo")).shape == shape,
        "weights.safetensors: adc_lo of node '", compiler::shown(node.name), "' must have the shape of adc_lsb");
}

kernels::MvmOptions options_of(const StepContext& context, const Node& node) {
  const CrossbarLayer& layer = compiler::crossbar_of(node);
  kernels::MvmOptions options;
  options.weight_bits = layer.weight_bits;
  options.act_bits = layer.act_bits;
  options.act_signed = layer.act_signed;
  options.seed = context.graph.seed;
  options.chip = context.graph.chip;
  options.layer = layer.layer_index;
  if (node.tensors.contains("adc_lo")) {
    const Shape& shape = context.weights.at(node.tensors.at("adc_lo")).shape;
    options.adc_lo = tensor_of<std::int32_t>(context, node, "adc_lo", shape);
  }
  if (node.tensors.contains("adc_lsb")) {
    const Shape& shape = context.weights.at(node.tensors.at("adc_lsb")).shape;
    options.adc_lsb = tensor_of<double>(context, node, "adc_lsb", shape);
    check_ranges(context, node, shape);
    if (shape.size() == 2) options.adc_columns = shape[1];
  }
  return options;
}

float scale_of(const StepContext& context, const Node& node, const char* role) {
  const float scale = tensor_of<float>(context, node, role, {})[0];
  check(scale > 0.0F, "weights.safetensors: ", role, " of node '", compiler::shown(node.name),
        "' must be positive, got ", scale);
  return scale;
}

}  // namespace

OperandTensors read_operand_tensors(const StepContext& context, const Node& node) {
  OperandTensors tensors;
  tensors.x_scale = scale_of(context, node, "x_scale");
  tensors.w_scale = scale_of(context, node, "w_scale");
  tensors.multiplier = tensor_of<float>(context, node, "multiplier", {})[0];
  tensors.options = options_of(context, node);
  return tensors;
}

CrossbarTensors read_crossbar_tensors(const StepContext& context, const Node& node) {
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  const bool conv = compiler::is_conv(node.op);
  const compiler::Window& w = node.window;
  CrossbarTensors tensors;
  tensors.outputs = conv ? node.shape[0] : node.shape.back();
  const Shape weight_shape =
      conv ? Shape{tensors.outputs, in[0] / w.groups, w.kernel[0], w.kernel[1]} : Shape{tensors.outputs, in.back()};
  tensors.weight = tensor_of<std::int8_t>(context, node, "weight", weight_shape);
  tensors.x_scale = scale_of(context, node, "x_scale");
  tensors.multiplier = tensor_of<float>(context, node, "multiplier", {tensors.outputs});
  tensors.bias = tensor_of<float>(context, node, "bias", {tensors.outputs});
  tensors.options = options_of(context, node);
  return tensors;
}

}  // namespace cimq::runtime
