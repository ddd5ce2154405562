#include "compiler/ir/shape_rules.h"

#include <algorithm>
#include <cstddef>

#include "common/error.h"
#include "common/pooled_size.h"

namespace cimq::compiler::shape_rules {
namespace {

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

}  // namespace

Shape convolution(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (in.size() != 3 || node.shape.size() != 3) refuse(node, "needs inputs and results of shape [C, H, W]");
  const std::int64_t groups = node.window.groups;
  if (in[0] % groups != 0 || node.shape[0] % groups != 0) {
    refuse(node, message("channels ", in[0], " -> ", node.shape[0], " cannot be split into ", groups, " groups"));
  }
  return windowed(node, in, node.shape[0]);
}

Shape pooling(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (in.size() != 3) refuse(node, "needs an input of shape [C, H, W], got " + text_of(in));
  const Window& window = node.window;
  // As in PyTorch: a window that lies in the padding alone would have no value.
  if (window.pad_top * 2 > window.kernel[0] || window.pad_left * 2 > window.kernel[1]) {
    refuse(node, "its padding must be at most half its kernel");
  }
  if (!window.ceil_mode) return windowed(node, in, in[0]);
  Shape out = {in[0]};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const std::int64_t pad = axis == 0 ? window.pad_top : window.pad_left;
    out.push_back(
        pooled_size(in[axis + 1], window.kernel[axis], window.stride[axis], pad, window.dilation[axis], true));
    if (out.back() < 1) refuse(node, message("its window does not fit the padded input of ", in[axis + 1] + 2 * pad));
  }
  return out;
}

Shape slice(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
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

Shape pad(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (node.pad_before.size() != in.size() || node.pad_after.size() != in.size()) {
    refuse(node, message("before and after must have ", in.size(), " entries"));
  }
  Shape out = in;
  for (std::size_t i = 0; i < in.size(); ++i) out[i] += node.pad_before[i] + node.pad_after[i];
  return out;
}

Shape cat(const Graph& graph, const Node& node) {
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

Shape broadcast(const Graph& graph, const Node& node) {
  const Shape& a = graph.shape_of(node.inputs[0]);
  const Shape& b = graph.shape_of(node.inputs[1]);
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

Shape same(const Graph& graph, const Node& node) { return graph.shape_of(node.inputs[0]); }

Shape stated(const Graph&, const Node& node) { return node.shape; }

Shape per_channel(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (in.empty()) refuse(node, "needs a channel dimension");
  return in;
}

Shape linear(const Graph& graph, const Node& node) {
  Shape out = graph.shape_of(node.inputs[0]);
  if (out.empty() || node.shape.empty()) refuse(node, "needs at least one dimension beside the batch");
  out.back() = node.shape.back();
  return out;
}

Shape matmul(const Graph& graph, const Node& node) {
  const Shape& a = graph.shape_of(node.inputs[0]);
  const Shape& b = graph.shape_of(node.inputs[1]);
  const std::size_t rank = a.size();
  bool fits = rank >= 2 && b.size() == rank && a[rank - 1] == b[rank - 2];
  for (std::size_t i = 0; fits && i + 2 < rank; ++i) fits = a[i] == b[i];
  if (!fits)
    refuse(node, "needs inputs of shape [..., m, k] and [..., k, n], got " + text_of(a) + " and " + text_of(b));
  Shape out = a;
  out.back() = b.back();
  return out;
}

Shape crossbar_matmul(const Graph& graph, const Node& node) {
  const Shape& x = graph.shape_of(node.inputs[0]);
  const Shape& w = graph.shape_of(node.inputs[1]);
  if (x.size() != 3 || w.size() != 3 || x[0] != w[0] || x[2] != w[2]) {
    refuse(node, "needs inputs of shape [repeats, vectors, inputs] and [repeats, outputs, inputs], got " + text_of(x) +
                     " and " + text_of(w));
  }
  return {x[0], x[1], w[1]};
}

Shape flatten(const Graph& graph, const Node& node) { return {elements(graph.shape_of(node.inputs[0]))}; }

Shape reshape(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (elements(node.shape) != elements(in)) {
    refuse(node, "cannot reshape " + text_of(in) + " to " + text_of(node.shape));
  }
  return node.shape;
}

Shape along_dim(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (node.dim >= static_cast<std::int64_t>(in.size())) {
    refuse(node, message("dim must be below ", in.size(), ", got ", node.dim));
  }
  return in;
}

Shape layer_norm(const Graph& graph, const Node& node) {
  const Shape& in = graph.shape_of(node.inputs[0]);
  if (node.dims > static_cast<std::int64_t>(in.size())) {
    refuse(node, message("dims must be at most ", in.size(), ", got ", node.dims));
  }
  return in;
}

Shape group_norm(const Graph& graph, const Node& node) {
  const Shape in = per_channel(graph, node);
  if (in[0] % node.groups != 0) refuse(node, message("groups must divide the ", in[0], " channels, got ", node.groups));
  return in;
}

}  // namespace cimq::compiler::shape_rules
