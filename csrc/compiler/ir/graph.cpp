#include "compiler/ir/graph.h"

#include <algorithm>

#include "common/error.h"

namespace cimq::compiler {
namespace {

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += message(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

[[noreturn]] void refuse(const Node& node, const std::string& reason) {
  throw Error(message("layers.json: node '", node.name, "' (", name_of(node.op), "): ", reason));
}

std::int64_t window_extent(const Node& node, std::size_t axis, std::int64_t size, std::int64_t before,
                           std::int64_t after) {
  const Window& window = node.window;
  const std::int64_t reach = window.dilation[axis] * (window.kernel[axis] - 1) + 1;
  const std::int64_t padded = size + before + after;
  if (reach > padded) {
    refuse(node, message("its window of ", reach, " does not fit the padded input of ", padded));
  }
  return (padded - reach) / window.stride[axis] + 1;
}

Shape windowed(const Node& node, const Shape& in, std::int64_t channels) {
  const Window& window = node.window;
  return {channels, window_extent(node, 0, in[1], window.pad_top, window.pad_bottom),
          window_extent(node, 1, in[2], window.pad_left, window.pad_right)};
}

Shape conv_shape(const Node& node, const Shape& in) {
  if (in.size() != 3 || node.shape.size() != 3) refuse(node, "needs inputs and results of shape [C, H, W]");
  const std::int64_t groups = node.window.groups;
  if (in[0] % groups != 0 || node.shape[0] % groups != 0) {
    refuse(node, message("channels ", in[0], " -> ", node.shape[0], " cannot be split into ", groups, " groups"));
  }
  return windowed(node, in, node.shape[0]);
}

Shape pool_shape(const Node& node, const Shape& in) {
  if (in.size() != 3) refuse(node, "needs an input of shape [C, H, W], got " + text_of(in));
  const Window& window = node.window;
  // As in PyTorch: a window that lies in the padding alone would have no value.
  if (window.pad_top * 2 > window.kernel[0] || window.pad_left * 2 > window.kernel[1]) {
    refuse(node, "its padding must be at most half its kernel");
  }
  return windowed(node, in, in[0]);
}

Shape slice_shape(const Node& node, const Shape& in) {
  if (node.slice_start.size() != in.size() || node.slice_stop.size() != in.size() ||
      node.slice_step.size() != in.size()) {
    refuse(node, message("start, stop and step must have ", in.size(), " entries"));
  }
  Shape out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (node.slice_start[i] >= node.slice_stop[i] || node.slice_stop[i] > in[i]) {
      refuse(node, message("must take start < stop <= ", in[i], " of dimension ", i));
    }
    out.push_back((node.slice_stop[i] - node.slice_start[i] - 1) / node.slice_step[i] + 1);
  }
  return out;
}

Shape pad_shape(const Node& node, const Shape& in) {
  if (node.pad_before.size() != in.size() || node.pad_after.size() != in.size()) {
    refuse(node, message("before and after must have ", in.size(), " entries"));
  }
  Shape out = in;
  for (std::size_t i = 0; i < in.size(); ++i) out[i] += node.pad_before[i] + node.pad_after[i];
  return out;
}

Shape cat_shape(const Graph& graph, const Node& node) {
  Shape out = graph.shape_of(node.inputs[0]);
  const auto dim = static_cast<std::size_t>(node.dim);
  if (dim >= out.size()) refuse(node, message("dim must be below ", out.size(), ", got ", node.dim));
  for (std::size_t i = 1; i < node.inputs.size(); ++i) {
    Shape other = graph.shape_of(node.inputs[i]);
    if (other.size() != out.size()) refuse(node, "its inputs differ in their number of dimensions");
    out[dim] += other[dim];
    other[dim] = out[dim];
    if (other != out) refuse(node, message("its inputs differ outside of dimension ", node.dim));
  }
  return out;
}

/// Of equal rank; a dimension of 1 is repeated.
Shape broadcast_shape(const Node& node, const Shape& a, const Shape& b) {
  bool fits = a.size() == b.size();
  Shape out = a;
  for (std::size_t i = 0; fits && i < a.size(); ++i) {
    fits = a[i] == b[i] || a[i] == 1 || b[i] == 1;
    out[i] = std::max(a[i], b[i]);
  }
  if (!fits)
    refuse(node, "its inputs must have one shape but for dimensions of 1, got " + text_of(a) + " and " + text_of(b));
  return out;
}

}  // namespace

std::string_view name_of(OpKind op) {
  switch (op) {
    case OpKind::kCrossbarConv2d:
      return "crossbar_conv2d";
    case OpKind::kCrossbarLinear:
      return "crossbar_linear";
    case OpKind::kConv2dF32:
      return "conv2d_f32";
    case OpKind::kLinearF32:
      return "linear_f32";
    case OpKind::kRelu:
      return "relu";
    case OpKind::kClamp:
      return "clamp";
    case OpKind::kMaxPool2d:
      return "max_pool2d";
    case OpKind::kAvgPool2d:
      return "avg_pool2d";
    case OpKind::kAdd:
      return "add";
    case OpKind::kMul:
      return "mul";
    case OpKind::kSigmoid:
      return "sigmoid";
    case OpKind::kSilu:
      return "silu";
    case OpKind::kHardsigmoid:
      return "hardsigmoid";
    case OpKind::kHardswish:
      return "hardswish";
    case OpKind::kFlatten:
      return "flatten";
    case OpKind::kReshape:
      return "reshape";
    case OpKind::kSlice:
      return "slice";
    case OpKind::kPad:
      return "pad";
    case OpKind::kCat:
      return "cat";
    case OpKind::kAffine:
      return "affine";
  }
  return "";
}

bool is_crossbar(OpKind op) { return op == OpKind::kCrossbarConv2d || op == OpKind::kCrossbarLinear; }
const CrossbarLayer& crossbar_of(const Node& node) {
  if (!node.crossbar) throw Error(message("node '", node.name, "' is no crossbar layer"));
  return *node.crossbar;
}
bool is_conv(OpKind op) { return op == OpKind::kCrossbarConv2d || op == OpKind::kConv2dF32; }

std::int64_t elements(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

Shape infer_shape(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  switch (node.op) {
    case OpKind::kCrossbarConv2d:
    case OpKind::kConv2dF32:
      return conv_shape(node, in);
    case OpKind::kCrossbarLinear:
    case OpKind::kLinearF32: {
      if (in.empty() || node.shape.empty()) refuse(node, "needs at least one dimension beside the batch");
      Shape out = in;
      out.back() = node.shape.back();
      return out;
    }
    case OpKind::kRelu:
    case OpKind::kClamp:
    case OpKind::kSigmoid:
    case OpKind::kSilu:
    case OpKind::kHardsigmoid:
    case OpKind::kHardswish:
      return in;
    case OpKind::kMul:
      return broadcast_shape(node, in, graph.shape_of(node.inputs[1]));
    case OpKind::kAffine:
      if (in.empty()) refuse(node, "needs a channel dimension");
      return in;
    case OpKind::kMaxPool2d:
    case OpKind::kAvgPool2d:
      return pool_shape(node, in);
    case OpKind::kAdd:
      if (graph.shape_of(node.inputs[1]) != in) {
        refuse(node, "its inputs must have one shape, got " + text_of(in) + " and " +
                         text_of(graph.shape_of(node.inputs[1])));
      }
      return in;
    case OpKind::kFlatten:
      return {elements(in)};
    case OpKind::kReshape:
      if (elements(node.shape) != elements(in)) {
        refuse(node, "cannot reshape " + text_of(in) + " to " + text_of(node.shape));
      }
      return node.shape;
    case OpKind::kSlice:
      return slice_shape(node, in);
    case OpKind::kPad:
      return pad_shape(node, in);
    case OpKind::kCat:
      return cat_shape(graph, node);
  }
  return {};
}

}  // namespace cimq::compiler
