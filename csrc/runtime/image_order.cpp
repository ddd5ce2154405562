#include "runtime/image_order.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "runtime/steps/channels_last.h"

namespace cimq::runtime {
namespace {

using compiler::Graph;
using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

constexpr std::size_t kImage = 3;
constexpr std::array<std::size_t, kImage> kChannelsLast = {1, 2, 0};  // where each dimension comes from

bool is_image(const Shape& shape) { return shape.size() == kImage; }

Shape channels_last(const Shape& shape) {
  Shape result;
  for (const std::size_t from : kChannelsLast) result.push_back(shape[from]);
  return result;
}

/// What gives the same numbers in any order of the dimensions, as long as shapes and attributes follow it.
bool follows(const Graph& network, const Node& node) {
  const auto images = [&] {
    return is_image(node.shape) &&
           std::ranges::all_of(node.inputs, [&](int input) { return is_image(network.shape_of(input)); });
  };
  switch (node.op) {
    case OpKind::kRelu:
    case OpKind::kClamp:
    case OpKind::kLeakyRelu:
    case OpKind::kSigmoid:
    case OpKind::kSilu:
    case OpKind::kHardsigmoid:
    case OpKind::kHardswish:
    case OpKind::kElu:
    case OpKind::kTanh:
    case OpKind::kGelu:
    case OpKind::kGeluTanh:
    case OpKind::kErf:
    case OpKind::kSqrt:
    case OpKind::kFakeQuantize:
    case OpKind::kAdd:
    case OpKind::kSub:
    case OpKind::kMul:
    case OpKind::kDiv:
    case OpKind::kMinimum:
    case OpKind::kMaximum:
    case OpKind::kSlice:
    case OpKind::kPad:
    case OpKind::kCat:
      return images();
    default:
      return false;
  }
}

class Orderer {
 public:
  Orderer(const Graph& network, const Hardware& hardware) : network_(network), hardware_(hardware) {
    result_.graph = network;
    result_.graph.nodes.clear();
  }

  OrderedNetwork run() {
    for (std::size_t i = 0; i < network_.nodes.size(); ++i) add(static_cast<int>(i));
    result_.graph.output = with(network_.output, false);
    return std::move(result_);
  }

 private:
  /// A value in both orders, as nodes of the result; kNone where it is not there.
  struct Places {
    int first = kNone;
    int last = kNone;
  };
  static constexpr int kNone = -2;

  bool is_last(int value) const {
    const auto found = places_.find(value);
    return found != places_.end() && found->second.last != kNone;
  }

  void add(int index) {
    const Node& node = network_.nodes[static_cast<std::size_t>(index)];
    // A maximum alone is no reason to bring an image into another order.
    const bool special =
        has_channels_last_step(hardware_, node) && is_image(node.shape) && (node.crossbar || is_last(node.inputs[0]));
    const bool last = special || (follows(network_, node) &&
                                  std::ranges::any_of(node.inputs, [&](int input) { return is_last(input); }));
    Node placed = node;
    for (int& input : placed.inputs) input = with(input, last);
    if (last) reorder(placed);
    push(std::move(placed), index, special);
    Places& places = places_[index];
    (last ? places.last : places.first) = newest();
  }

  static void reorder(Node& node) {
    node.shape = channels_last(node.shape);
    for (Shape* attribute :
         {&node.slice_start, &node.slice_stop, &node.slice_step, &node.pad_before, &node.pad_after}) {
      if (is_image(*attribute)) *attribute = channels_last(*attribute);
    }
    if (node.op == OpKind::kCat) {
      node.dim = std::ranges::find(kChannelsLast, static_cast<std::size_t>(node.dim)) - kChannelsLast.begin();
    }
  }

  /// The value in an order, which it is brought into where it is not there yet.
  int with(int value, bool last) {
    Places& places = places_.try_emplace(value, Places{value < 0 ? value : kNone, kNone}).first->second;
    int& wanted = last ? places.last : places.first;
    if (wanted == kNone) {
      Node node;
      node.name = value < 0 ? network_.input_name : network_.nodes[static_cast<std::size_t>(value)].name;
      node.name += last ? " (channels last)" : " (channels first)";
      node.op = OpKind::kTranspose;
      node.inputs = {last ? places.first : places.last};
      node.axes = last ? Shape{1, 2, 0} : Shape{2, 0, 1};
      node.shape = last ? channels_last(network_.shape_of(value)) : network_.shape_of(value);
      push(std::move(node), -1, false);
      wanted = newest();
    }
    return wanted;
  }

  void push(Node node, int origin, bool special) {
    result_.graph.nodes.push_back(std::move(node));
    result_.origin.push_back(origin);
    result_.special.push_back(special);
  }
  int newest() const { return static_cast<int>(result_.graph.nodes.size()) - 1; }

  const Graph& network_;
  const Hardware& hardware_;
  OrderedNetwork result_;
  std::map<int, Places> places_;  // by value of the network
};

}  // namespace

OrderedNetwork order_images(const Graph& network, const Hardware& hardware) { return Orderer(network, hardware).run(); }

}  // namespace cimq::runtime
