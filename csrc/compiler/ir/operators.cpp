#include "compiler/ir/operators.h"

#include <algorithm>
#include <array>

#include "common/error.h"
#include "compiler/ir/row_rules.h"
#include "compiler/ir/shape_rules.h"

namespace cimq::compiler {
namespace {

namespace rules = shape_rules;
namespace rows = row_rules;
using Roles = std::vector<const char*>;
using Places = std::vector<std::int64_t*>;

Places pair_of(std::array<std::int64_t, 2>& values) { return {&values[0], &values[1]}; }  // height, width

/// May be missing: it came with a later version of the format.
constexpr Attribute optional(Attribute attribute) {
  attribute.required = false;
  return attribute;
}

constexpr Attribute kKernel{"kernel", [](Node& n) { return pair_of(n.window.kernel); }, 1};
constexpr Attribute kStride{"stride", [](Node& n) { return pair_of(n.window.stride); }, 1};
constexpr Attribute kDilation{"dilation", [](Node& n) { return pair_of(n.window.dilation); }, 1};
constexpr Attribute kFourPaddings{"padding", [](Node& n) -> Places {
                                    Window& w = n.window;
                                    return {&w.pad_left, &w.pad_right, &w.pad_top, &w.pad_bottom};
                                  }};
constexpr Attribute kTwoPaddings{"padding", [](Node& n) -> Places { return {&n.window.pad_top, &n.window.pad_left}; }};
constexpr Attribute kGroups{"groups", [](Node& n) -> std::int64_t& { return n.window.groups; }, 1};
constexpr Attribute kCountIncludePad{"count_include_pad", [](Node& n) -> bool& { return n.window.count_include_pad; }};
constexpr Attribute kCeilMode = optional({"ceil_mode", [](Node& n) -> bool& { return n.window.ceil_mode; }});
constexpr Attribute kDivisor = optional({"divisor", [](Node& n) -> std::int64_t& { return n.window.divisor; }, 1});
constexpr Attribute kBefore{"before", [](Node& n) -> Shape& { return n.pad_before; }};
constexpr Attribute kAfter{"after", [](Node& n) -> Shape& { return n.pad_after; }};
constexpr Attribute kStart{"start", [](Node& n) -> Shape& { return n.slice_start; }, 0, kMaxElements};
constexpr Attribute kStop{"stop", [](Node& n) -> Shape& { return n.slice_stop; }, 1, kMaxElements};
constexpr Attribute kStep{"step", [](Node& n) -> Shape& { return n.slice_step; }, 1, kMaxElements};
constexpr Attribute kValue{"value", [](Node& n) -> float& { return n.pad_value; }};
constexpr Attribute kMin{"min", [](Node& n) -> std::optional<float>& { return n.clamp_min; }};
constexpr Attribute kMax{"max", [](Node& n) -> std::optional<float>& { return n.clamp_max; }};
constexpr Attribute kDim{"dim", [](Node& n) -> std::int64_t& { return n.dim; }, 0, std::int64_t{kMaxRank}};
constexpr Attribute kAxes{"dims", [](Node& n) -> Shape& { return n.axes; }, 0, std::int64_t{kMaxRank}};
constexpr Attribute kPermutation{"perm", [](Node& n) -> Shape& { return n.axes; }, 0, std::int64_t{kMaxRank}};
constexpr Attribute kSize{"size", [](Node& n) { return pair_of(n.size); }, 1};
constexpr float kSmallest = std::numeric_limits<float>::min();
constexpr Attribute kRowStep{"row_step", [](Node& n) -> float& { return n.row_step; }, 0, 0, kSmallest};
constexpr Attribute kColumnStep{"column_step", [](Node& n) -> float& { return n.column_step; }, 0, 0, kSmallest};
constexpr Attribute kAlignCorners{"align_corners", [](Node& n) -> bool& { return n.align_corners; }};

constexpr Attribute kSlope{"slope", [](Node& n) -> float& { return n.slope; }};
constexpr Attribute kAlpha{"alpha", [](Node& n) -> float& { return n.alpha; }};
constexpr Attribute kEps{"eps", [](Node& n) -> double& { return n.eps; }, 0, 0, 0.0F};
constexpr Attribute kDims{"dims", [](Node& n) -> std::int64_t& { return n.dims; }, 1, std::int64_t{kMaxRank}};
// As far as the integers of fake quantisation go (kernels/formula/fake_quantize.h).
constexpr std::int64_t kMaxLevel = 65535;
constexpr Attribute kLow{"low", [](Node& n) -> std::int64_t& { return n.low; }, -kMaxLevel, kMaxLevel};
constexpr Attribute kHigh{"high", [](Node& n) -> std::int64_t& { return n.high; }, -kMaxLevel, kMaxLevel};
constexpr Attribute kNormGroups{"groups", [](Node& n) -> std::int64_t& { return n.groups; }, 1, kMaxElements};

void pad_both_sides(Node& node) {
  node.window.pad_bottom = node.window.pad_top;
  node.window.pad_right = node.window.pad_left;
}

void check_bounds(Node& node) {
  if (!node.clamp_min && !node.clamp_max) refuse(node, "needs min or max");
}

void check_levels(Node& node) {
  if (node.low > node.high) refuse(node, message("low must be at most high, got ", node.low, " and ", node.high));
}

const std::vector<Operator>& table() {
  static const Roles kCrossbar = {"weight", "x_scale", "multiplier", "bias"};
  static const Roles kAdc = {"adc_lo", "adc_lsb"};
  static const std::vector<Attribute> kConvolution = {kKernel, kStride, kDilation, kFourPaddings, kGroups};
  static const std::vector<Attribute> kMaxPool = {kKernel, kStride, kTwoPaddings, kDilation, kCeilMode};
  static const std::vector<Attribute> kAvgPool = {kKernel,          kStride,   kTwoPaddings,
                                                  kCountIncludePad, kCeilMode, kDivisor};
  static const std::vector<Attribute> kResize = {kSize, kRowStep, kColumnStep};
  static const std::vector<Attribute> kResizeBilinear = {kSize, kRowStep, kColumnStep, kAlignCorners};
  static const std::vector<Operator> kTable = {
      {OpKind::kCrossbarConv2d, "crossbar_conv2d", 1, 1, rules::convolution, rows::window, kConvolution, kCrossbar,
       kAdc, nullptr, Product::kConvolution, true},
      {OpKind::kCrossbarLinear,
       "crossbar_linear",
       1,
       1,
       rules::linear,
       rows::linear,
       {},
       kCrossbar,
       kAdc,
       nullptr,
       Product::kLinear,
       true},
      {OpKind::kConv2dF32,
       "conv2d_f32",
       1,
       1,
       rules::convolution,
       rows::whole,
       kConvolution,
       {"weight"},
       {"bias"},
       nullptr,
       Product::kConvolution},
      {OpKind::kLinearF32,
       "linear_f32",
       1,
       1,
       rules::linear,
       rows::whole,
       {},
       {"weight"},
       {"bias"},
       nullptr,
       Product::kLinear},
      {OpKind::kRelu, "relu", 1, 1, rules::same, rows::same},
      {OpKind::kClamp, "clamp", 1, 1, rules::same, rows::same, {kMin, kMax}, {}, {}, check_bounds},
      {OpKind::kMaxPool2d, "max_pool2d", 1, 1, rules::pooling, rows::window, kMaxPool, {}, {}, pad_both_sides},
      {OpKind::kAvgPool2d, "avg_pool2d", 1, 1, rules::pooling, rows::window, kAvgPool, {}, {}, pad_both_sides},
      {OpKind::kAdd, "add", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kMul, "mul", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kSigmoid, "sigmoid", 1, 1, rules::same, rows::same},
      {OpKind::kSilu, "silu", 1, 1, rules::same, rows::same},
      {OpKind::kHardsigmoid, "hardsigmoid", 1, 1, rules::same, rows::same},
      {OpKind::kHardswish, "hardswish", 1, 1, rules::same, rows::same},
      {OpKind::kFlatten, "flatten", 1, 1, rules::flatten, rows::whole},
      {OpKind::kReshape, "reshape", 1, 1, rules::reshape, rows::whole},
      {OpKind::kSlice, "slice", 1, 1, rules::slice, rows::slice, {kStart, kStop, kStep}},
      {OpKind::kPad, "pad", 1, 1, rules::pad, rows::pad, {kBefore, kAfter, kValue}},
      {OpKind::kCat, "cat", 1, kMaxInputs, rules::cat, rows::cat, {kDim}},
      {OpKind::kAffine, "affine", 1, 1, rules::per_channel, rows::same, {}, {"scale", "shift"}},
      {OpKind::kConstant, "constant", 0, 0, rules::stated, rows::whole, {}, {"value"}},
      {OpKind::kSub, "sub", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kDiv, "div", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kMinimum, "minimum", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kMaximum, "maximum", 2, 2, rules::broadcast, rows::broadcast},
      {OpKind::kLeakyRelu, "leaky_relu", 1, 1, rules::same, rows::same, {kSlope}},
      {OpKind::kPrelu, "prelu", 1, 1, rules::per_channel, rows::same, {}, {"weight"}},
      {OpKind::kElu, "elu", 1, 1, rules::same, rows::same, {kAlpha}},
      {OpKind::kTanh, "tanh", 1, 1, rules::same, rows::same},
      {OpKind::kGelu, "gelu", 1, 1, rules::same, rows::same},
      {OpKind::kGeluTanh, "gelu_tanh", 1, 1, rules::same, rows::same},
      {OpKind::kSoftmax, "softmax", 1, 1, rules::along_dim, rows::along_dim, {kDim}},
      {OpKind::kLogSoftmax, "log_softmax", 1, 1, rules::along_dim, rows::along_dim, {kDim}},
      {OpKind::kLayerNorm,
       "layer_norm",
       1,
       1,
       rules::layer_norm,
       rows::layer_norm,
       {kDims, kEps},
       {},
       {"weight", "bias"}},
      {OpKind::kGroupNorm,
       "group_norm",
       1,
       1,
       rules::group_norm,
       rows::whole,
       {kNormGroups, kEps},
       {},
       {"weight", "bias"}},
      {OpKind::kAdaptiveAvgPool2d, "adaptive_avg_pool2d", 1, 1, rules::to_size, rows::whole, {kSize}},
      {OpKind::kAdaptiveMaxPool2d, "adaptive_max_pool2d", 1, 1, rules::to_size, rows::whole, {kSize}},
      {OpKind::kMean, "mean", 1, 1, rules::mean, rows::whole, {kAxes}},
      {OpKind::kResizeNearest, "resize_nearest", 1, 1, rules::to_size, rows::whole, kResize},
      {OpKind::kResizeBilinear, "resize_bilinear", 1, 1, rules::to_size, rows::whole, kResizeBilinear},
      {OpKind::kTranspose, "transpose", 1, 1, rules::transpose, rows::whole, {kPermutation}},
      {OpKind::kExpand, "expand", 1, 1, rules::expand, rows::whole},
      {OpKind::kFlip, "flip", 1, 1, rules::flip, rows::whole, {kAxes}},
      {OpKind::kReflectionPad, "reflection_pad", 1, 1, rules::reflection_pad, rows::whole, {kBefore, kAfter}},
      {OpKind::kReplicationPad, "replication_pad", 1, 1, rules::pad, rows::pad, {kBefore, kAfter}},
      {OpKind::kCircularPad, "circular_pad", 1, 1, rules::circular_pad, rows::whole, {kBefore, kAfter}},
      {OpKind::kFakeQuantize,
       "fake_quantize",
       1,
       1,
       rules::same,
       rows::same,
       {kLow, kHigh},
       {"scale"},
       {},
       check_levels},
      {OpKind::kErf, "erf", 1, 1, rules::same, rows::same},
      {OpKind::kSqrt, "sqrt", 1, 1, rules::same, rows::same},
      {OpKind::kMatmul, "matmul", 2, 2, rules::matmul, rows::whole, {}, {}, {}, nullptr, Product::kMatmul},
      // All of the second input is written before the first product.
      {OpKind::kCrossbarMatmul,
       "crossbar_matmul",
       2,
       2,
       rules::crossbar_matmul,
       rows::whole,
       {},
       {"x_scale", "w_scale", "multiplier"},
       kAdc,
       nullptr,
       Product::kMatmul,
       true},
  };
  return kTable;
}

}  // namespace

std::span<const Operator> operators() { return table(); }

const Operator& operator_of(OpKind kind) {
  const auto found = std::ranges::find(table(), kind, &Operator::kind);
  if (found == table().end()) throw Error(message("operation ", static_cast<int>(kind), " has no row in the table"));
  return *found;
}

const Operator* find_operator(std::string_view name) {
  const auto found = std::ranges::find(table(), name, &Operator::name);
  return found == table().end() ? nullptr : &*found;
}

}  // namespace cimq::compiler
