// Small networks and machines drawn from a seed: convolutions with groups, pooling, borders, branches, products of two
// values, then a linear layer.
#pragma once

#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "common/mapping.h"
#include "runtime/bundle_fixture.h"

namespace cimq::test {

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}

  int between(int low, int high) { return low + static_cast<int>(random_() % static_cast<unsigned>(high - low + 1)); }
  bool one_in(int count) { return between(1, count) == 1; }
  int of(std::initializer_list<int> values) {
    return *(values.begin() + between(0, static_cast<int>(values.size()) - 1));
  }

 private:
  std::mt19937 random_;
};

/// A machine whose arrays hold pairs whole.
inline Hardware random_machine(Draw& draw) {
  Hardware h;
  h.mapping = static_cast<Mapping>(draw.between(0, 2));
  h.rows = 2 * draw.of({1, 2, 3, 8, 128});
  h.cols = 2 * draw.of({1, 2, 5, 16, 128});
  h.cell_bits = draw.between(1, 4);
  h.dac_bits = draw.between(1, 3);
  h.sign_magnitude = h.mapping != Mapping::kOffset && draw.one_in(2);
  if (draw.one_in(2)) {
    h.adc.bits = draw.of({2, 4, 6, 9});
    h.adc.range = draw.one_in(2) ? AdcRange::kFullScale : AdcRange::kGranular;
    h.adc.placement = draw.one_in(2) ? AdcPlacement::kPerColumn : AdcPlacement::kDifferential;
  }
  if (draw.one_in(3)) {
    h.cell.programming.model = "gaussian";
    h.cell.programming.sigma_levels = 0.3;
  }
  if (draw.one_in(3)) {
    h.cell.read.model = draw.one_in(2) ? "constant" : "proportional";
    if (h.cell.read.model == "constant") h.cell.read.sigma_levels = 0.2;
    if (h.cell.read.model == "proportional") h.cell.read.sigma_ratio = 0.1;
  }
  h.resources.crossbars.reset();
  if (!draw.one_in(5)) h.resources.crossbars = draw.of({1, 2, 3, 5, 8, 13, 40});
  return h;
}

struct RandomNet {
  json layers;
  Files files;  ///< of a bundle
  std::vector<std::int64_t> input;

  /// `products`: two products of values that crossbars hold, before the linear layer.
  RandomNet(Draw& draw, const Hardware& hardware, bool products = false) : draw_(draw) {
    const int groups = draw.between(1, 3);
    input = {groups * draw.between(1, 2), draw.between(2, 4), draw.between(2, 4)};
    std::vector<std::int64_t> shape = input;
    for (int i = draw.between(1, 2); i > 0; --i) {
      shape = add_conv(shape, i == 1 ? groups : 1, groups);
      if (draw.one_in(2)) shape = add_operation(shape);
    }
    for (int i = 0; products && i < 2; ++i) shape = add_product(shape);
    const std::int64_t flat = shape[0] * shape[1] * shape[2];
    add({{"op", "flatten"}, {"shape", {flat}}, {"attrs", json::object()}, {"tensors", json::object()}});
    add_layer({{"op", "crossbar_linear"}, {"shape", {draw.between(1, 4)}}, {"attrs", json::object()}}, flat, 1, 1);
    layers = {{"schema", "cimq.layers"},
              {"version", "1.1.0"},
              {"input", {{"name", "x"}, {"shape", input}, {"dtype", "float32"}}},
              {"output", last_},
              {"nodes", nodes_}};
    files = {{"layers.json", bytes_of(layers.dump())},
             {"hardware.json", bytes_of(hardware.to_json())},
             {"policy.json", bytes_of(policy_.dump())},
             {"weights.safetensors", weights_.bytes()}};
  }

  runtime::Tensor sample(std::int64_t batch) const {
    runtime::Tensor x{input, {}};
    x.shape.insert(x.shape.begin(), batch);
    const std::int64_t count = batch * input[0] * input[1] * input[2];
    for (std::int64_t i = 0; i < count; ++i) x.data.push_back(static_cast<float>((i * 29) % 83 - 30) * 0.21F);
    return x;
  }

 private:
  void add(json node, const std::vector<std::string>& more_inputs = {}) {
    node["name"] = "n" + std::to_string(nodes_.size());
    node["inputs"] = {last_};
    for (const std::string& other : more_inputs) node["inputs"].push_back(other);
    last_ = node["name"];
    nodes_.push_back(std::move(node));
  }

  /// Something that is not a layer, and works on rows of its input.
  std::vector<std::int64_t> add_operation(std::vector<std::int64_t> shape) {
    const auto op = [&](const char* name, const json& attrs, const std::vector<std::string>& more = {}) {
      add({{"op", name}, {"shape", shape}, {"attrs", attrs}, {"tensors", json::object()}}, more);
      return shape;
    };
    const std::string before = last_;
    switch (draw_.between(0, 6)) {
      case 0: {
        const bool smaller = shape[1] > 1 && shape[2] > 1 && draw_.one_in(2);
        const int stride = smaller ? draw_.between(1, 2) : 1;
        const int kernel = smaller ? 2 : 1;
        shape = {shape[0], (shape[1] - kernel) / stride + 1, (shape[2] - kernel) / stride + 1};
        return op(
            "max_pool2d",
            {{"kernel", {kernel, kernel}}, {"stride", {stride, stride}}, {"padding", {0, 0}}, {"dilation", {1, 1}}});
      }
      case 1: {
        shape = {shape[0], (shape[1] + 2 - 3) / 2 + 1, (shape[2] + 2 - 3) / 2 + 1};
        return op("avg_pool2d",
                  {{"kernel", {3, 3}}, {"stride", {2, 2}}, {"padding", {1, 1}}, {"count_include_pad", true}});
      }
      case 2: {
        const int top = draw_.between(0, 2);
        const int bottom = draw_.between(0, 2);
        shape[1] += top + bottom;
        json attrs = {{"before", {0, top, 0}}, {"after", {0, bottom, 0}}};
        const bool constant = draw_.one_in(2);
        if (constant) attrs["value"] = 0.5;
        return op(constant ? "pad" : "replication_pad", attrs);
      }
      case 3: {
        op("relu", json::object());
        return op("add", json::object(), {before});
      }
      case 4: {
        op("sigmoid", json::object());
        const int dim = draw_.between(0, 2);
        shape[static_cast<std::size_t>(dim)] *= 2;
        return op("cat", {{"dim", dim}}, {before});
      }
      case 5: {
        const std::int64_t start = draw_.between(0, static_cast<int>(shape[1]) - 1);
        const int step = draw_.between(1, 2);
        const json attrs = {{"start", {0, start, 0}}, {"stop", shape}, {"step", {1, step, 1}}};
        shape[1] = (shape[1] - start - 1) / step + 1;
        return op("slice", attrs);
      }
      default:
        return op("softmax", {{"dim", draw_.between(0, 2)}});
    }
  }

  std::vector<std::int64_t> add_conv(const std::vector<std::int64_t>& in, int groups, int multiple) {
    const int kernel = draw_.between(1, in[1] > 1 && in[2] > 1 ? 2 : 1);
    const int pad = draw_.between(0, 1);
    const int stride = draw_.between(1, 2);
    const auto size = [&](std::int64_t n) { return (n + 2 * pad - kernel) / stride + 1; };
    const std::int64_t outputs = multiple * draw_.between(1, 3);
    const std::vector<std::int64_t> shape = {outputs, size(in[1]), size(in[2])};
    json attrs = {{"kernel", {kernel, kernel}}, {"stride", {stride, stride}}, {"dilation", {1, 1}}, {"groups", groups}};
    attrs["padding"] = {pad, pad, pad, pad};
    add_layer({{"op", "crossbar_conv2d"}, {"shape", shape}, {"attrs", attrs}}, in[0] / groups * kernel * kernel, groups,
              shape[1] * shape[2]);
    if (draw_.one_in(2)) {
      add({{"op", "relu"}, {"shape", shape}, {"attrs", json::object()}, {"tensors", json::object()}});
    }
    return shape;
  }

  /// Of all rows, with some of them.
  std::vector<std::int64_t> add_product(std::vector<std::int64_t> shape) {
    const std::string all = last_;
    const std::int64_t begin = draw_.between(0, static_cast<int>(shape[1]) - 1);
    const std::int64_t inputs = shape[2];
    const std::int64_t rows = shape[1];
    json part = {{"start", {0, begin, 0}}, {"stop", shape}, {"step", {1, 1, 1}}};
    shape[1] -= begin;
    add({{"op", "slice"}, {"shape", shape}, {"attrs", part}, {"tensors", json::object()}});
    const std::string some = last_;
    const std::int64_t outputs = shape[1];
    shape = {shape[0], rows, outputs};
    json node = {{"op", "crossbar_matmul"}, {"shape", shape}, {"attrs", json::object()}};
    const int weight_bits = add_facts(node, outputs, inputs, static_cast<int>(shape[0]), rows);
    const std::string name = node["layer_name"];
    for (const char* role : {"x_scale", "w_scale", "multiplier"}) {
      node["tensors"][role] = name + "." + std::string(role);
      weights_.add(name + "." + role, "F32", {}, std::vector<float>{0.01F * static_cast<float>(draw_.between(1, 40))});
    }
    policy_[name] = {weight_bits, node["act_bits"]};
    last_ = all;
    add(std::move(node), {some});
    return shape;
  }

  /// What layers of all kinds state of themselves; the bits of the weights.
  int add_facts(json& node, std::int64_t outputs, std::int64_t inputs, int groups, std::int64_t invocations) {
    const int weight_bits = draw_.between(1, 8);
    const int act_bits = draw_.between(1, 8);
    const bool is_signed = act_bits > 1 && draw_.one_in(2);
    node["layer_name"] = "n" + std::to_string(nodes_.size());
    node["layer_index"] = nodes_.size();
    node["weight_bits"] = weight_bits;
    node["act_bits"] = act_bits;
    node["act_signed"] = is_signed;
    if (!is_signed && draw_.one_in(3)) node["act_zero"] = -draw_.between(1, (1 << act_bits) - 1);
    node["outputs"] = outputs;
    node["inputs_per_output"] = inputs;
    node["invocations"] = invocations;
    node["repeats"] = groups;
    return weight_bits;
  }

  void add_layer(json node, std::int64_t inputs, int groups, std::int64_t invocations) {
    const std::string name = "n" + std::to_string(nodes_.size());
    const std::int64_t outputs = node["shape"][0];
    const int weight_bits = add_facts(node, outputs / groups, inputs, groups, invocations);
    for (const char* role : {"weight", "x_scale", "multiplier", "bias"}) {
      node["tensors"][role] = name + "." + std::string(role);
    }
    std::vector<std::int8_t> weight;
    const int largest = largest_weight(weight_bits);
    for (std::int64_t i = 0; i < outputs * inputs; ++i) {
      weight.push_back(
          static_cast<std::int8_t>(weight_bits == 1 ? 2 * draw_.between(0, 1) - 1 : draw_.between(-largest, largest)));
    }
    const bool conv = node["op"] == "crossbar_conv2d";
    std::vector<std::int64_t> shape = {outputs, inputs};
    if (conv) {
      const std::int64_t kernel = node["attrs"]["kernel"][0];
      shape = {outputs, inputs / kernel / kernel, kernel, kernel};
    }
    weights_.add(name + ".weight", "I8", shape, weight);
    weights_.add(name + ".x_scale", "F32", {}, std::vector<float>{0.25F});
    std::vector<float> multiplier, bias;
    for (std::int64_t o = 0; o < outputs; ++o) {
      multiplier.push_back(0.01F * static_cast<float>(draw_.between(1, 9)));
      bias.push_back(0.1F * static_cast<float>(draw_.between(-9, 9)));
    }
    weights_.add(name + ".multiplier", "F32", {outputs}, multiplier);
    weights_.add(name + ".bias", "F32", {outputs}, bias);
    policy_[name] = {weight_bits, node["act_bits"]};
    add(std::move(node));
  }

  Draw& draw_;
  json nodes_ = json::array();
  json policy_ = json::object();
  TensorFile weights_;
  std::string last_ = "x";
};

}  // namespace cimq::test
