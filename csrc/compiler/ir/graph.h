// The network as the compiler and the executor see it: nodes in order of execution, shapes without the batch.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/hardware.h"
#include "common/layer_machine.h"

namespace cimq::compiler {

enum class OpKind {
  kCrossbarConv2d,
  kCrossbarLinear,
  kConv2dF32,
  kLinearF32,
  kRelu,
  kClamp,
  kMaxPool2d,
  kAvgPool2d,
  kAdd,
  kMul,
  kSigmoid,
  kSilu,
  kHardsigmoid,
  kHardswish,
  kFlatten,
  kReshape,
  kSlice,
  kPad,
  kCat,
  kAffine,
  kConstant,
  kSub,
  kDiv,
  kMinimum,
  kMaximum,
  kLeakyRelu,
  kPrelu,
  kElu,
  kTanh,
  kGelu,
  kGeluTanh,
  kSoftmax,
  kLogSoftmax,
  kLayerNorm,
  kGroupNorm,
  kAdaptiveAvgPool2d,
  kAdaptiveMaxPool2d,
  kMean,
  kResizeNearest,
  kResizeBilinear,
  kTranspose,
  kExpand,
  kFlip,
  kReflectionPad,
  kReplicationPad,
  kCircularPad,
  kFakeQuantize,
  kErf,
  kSqrt,
  kMatmul,
  kCrossbarMatmul,
};

using Shape = std::vector<std::int64_t>;

/// Kernel geometry of convolutions and pooling. Pooling pads symmetrically and does not use `groups`.
struct Window {
  std::array<std::int64_t, 2> kernel{1, 1}, stride{1, 1}, dilation{1, 1};  // height, width
  std::int64_t pad_left = 0, pad_right = 0, pad_top = 0, pad_bottom = 0;
  std::int64_t groups = 1;
  bool count_include_pad = true;
  bool ceil_mode = false;    ///< pooling: a last window that hangs over the image counts too
  std::int64_t divisor = 0;  ///< average pooling: what is divided by; 0 for the number of elements
};

/// What a crossbar layer is to the crossbars and to the latency model.
struct CrossbarLayer {
  std::string layer_name;
  std::uint32_t layer_index = 0;
  int weight_bits = 8;
  int act_bits = 8;
  bool act_signed = false;
  std::int64_t outputs = 0;            ///< columns of one group's matrix
  std::int64_t inputs_per_output = 0;  ///< rows of one group's matrix
  std::int64_t invocations = 1;        ///< matrix-vector products per sample and group
  std::int64_t repeats = 1;            ///< groups; matrices that are written at run time (heads)
  int act_zero = 0;                    ///< zero point z of the input, x = x_scale * (x_q + z); needs !act_signed
  LayerMachine machine = {};           ///< what it has otherwise than the machine of the network
};

struct Node {
  std::string name;
  OpKind op = OpKind::kRelu;
  std::vector<int> inputs;                     ///< -1 is the graph's input, i >= 0 the result of node i; may be empty
  Shape shape;                                 ///< of the result, without the batch
  std::map<std::string, std::string> tensors;  ///< role ("weight", "x_scale", ...) -> key in weights.safetensors

  Window window;                              // convolutions, pooling
  std::optional<float> clamp_min, clamp_max;  // clamp
  Shape slice_start, slice_stop, slice_step;  // slice, one entry per dimension
  Shape pad_before, pad_after;                // pad, one entry per dimension
  float pad_value = 0.0F;                     // pad
  std::int64_t dim = 0;                       // cat, softmax, log_softmax
  float slope = 0.0F;                         // leaky_relu
  float alpha = 1.0F;                         // elu
  double eps = 0.0;                           // layer_norm, group_norm
  std::int64_t dims = 1;                      // layer_norm: the last so many dimensions are normalised together
  std::int64_t groups = 1;                    // group_norm
  Shape axes;                                 // mean, flip: dimensions; transpose: where each one comes from
  std::array<std::int64_t, 2> size{1, 1};     // adaptive pooling, resize: height and width of the result
  float row_step = 1.0F, column_step = 1.0F;  // resize: rows and columns of the input per one of the result
  bool align_corners = false;                 // resize_bilinear
  std::int64_t low = 0, high = 0;             // fake_quantize: smallest and largest integer
  std::optional<CrossbarLayer> crossbar;      // crossbar_conv2d, crossbar_linear, crossbar_matmul
};

struct Graph {
  std::string input_name;
  Shape input_shape;       ///< without the batch
  int output = -1;         ///< node index
  std::uint64_t seed = 0;  ///< of device variation
  std::uint32_t chip = 0;  ///< which chip of that seed
  std::vector<Node> nodes;

  const Shape& shape_of(int value) const {
    return value < 0 ? input_shape : nodes[static_cast<std::size_t>(value)].shape;
  }
};

/// Name in layers.json.
std::string_view name_of(OpKind op);
bool is_crossbar(OpKind op);
/// Facts of a crossbar node; throws Error for any other.
const CrossbarLayer& crossbar_of(const Node& node);
/// The machine that a layer computes with, of that of the network; throws Error as layer_hardware.
Hardware hardware_of(const Hardware& network, const CrossbarLayer& layer);
bool is_conv(OpKind op);
/// Whether crossbars hold the node's second input, which is written anew for every sample.
bool writes_operand(OpKind op);

/// Product of the dimensions.
std::int64_t elements(const Shape& shape);
/// "[2, 3]".
std::string text_of(const Shape& shape);
/// Throws Error with the node's name and operation and `reason`.
[[noreturn]] void refuse(const Node& node, const std::string& reason);

/// Shape that `node` computes from its inputs' shapes; throws Error naming the node where they do not fit.
/// Crossbar and fp32 layers take their output count from `node.shape`, which the tensors' shapes must match (runtime).
Shape infer_shape(const Graph& graph, const Node& node);

}  // namespace cimq::compiler
