#include <catch2/catch.hpp>
#include <set>

#include "common/error.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/ir/operators.h"
#include "runtime/bundle_fixture.h"

using Catch::Matchers::Contains;
using cimq::compiler::OpKind;
using cimq::compiler::read_layers;
using nlohmann::json;

namespace {

json net() { return cimq::test::layers_of_small_net(); }

/// The small network with the value at a JSON pointer replaced must be refused.
void refused(const std::string& pointer, const json& value, const char* part) {
  json file = net();
  file[json::json_pointer(pointer)] = value;
  INFO(pointer << " = " << value.dump());
  CHECK_THROWS_WITH(read_layers(file.dump()), Contains(part));
}

json node(const char* op, const json& attrs, const json& shape, const json& inputs = {"x"}) {
  return {{"name", "n"},    {"op", op},       {"inputs", inputs},
          {"shape", shape}, {"attrs", attrs}, {"tensors", json::object()}};
}

json single(const json& the_node, const json& input_shape) {
  return {{"schema", "cimq.layers"},
          {"version", "1.0.0"},
          {"input", {{"name", "x"}, {"shape", input_shape}, {"dtype", "float32"}}},
          {"output", "n"},
          {"nodes", {the_node}}};
}

}  // namespace

TEST_CASE("every operator has one row with a name of its own", "[layers]") {
  std::set<std::string_view> names;
  int kind = 0;
  for (const auto& row : cimq::compiler::operators()) {
    INFO(row.name);
    CHECK(static_cast<int>(row.kind) == kind++);  // in the order of OpKind: none is left out
    CHECK(names.insert(row.name).second);
    CHECK(cimq::compiler::find_operator(row.name) == &row);
    CHECK(cimq::compiler::name_of(row.kind) == row.name);
    REQUIRE(row.shape != nullptr);
  }
  CHECK(cimq::compiler::find_operator("exec") == nullptr);
}

TEST_CASE("layers.json becomes a graph in order", "[layers]") {
  const auto graph = read_layers(net().dump());
  REQUIRE(graph.nodes.size() == 6);
  CHECK(graph.output == 5);
  CHECK(graph.nodes[0].op == OpKind::kCrossbarConv2d);
  CHECK(graph.nodes[0].inputs == std::vector<int>{-1});
  CHECK(graph.nodes[0].window.pad_left == 1);
  CHECK(graph.nodes[0].window.pad_bottom == 1);
  CHECK(graph.nodes[0].window.pad_top == 0);
  CHECK(graph.nodes[0].crossbar->repeats == 2);
  CHECK(graph.nodes[2].inputs == std::vector<int>{1, 0});
  CHECK(graph.nodes[5].tensors.at("x_scale") == "fc.x_scale");
}

TEST_CASE("layers.json that does not hold together is refused", "[layers]") {
  refused("/schema", "x", "schema must be 'cimq.layers'");
  refused("/version", "2.0.0", "cannot be read");
  refused("/extra", 1, "unknown key 'extra'");
  refused("/output", "x", "output must name a node");
  refused("/output", "nowhere", "output must name a node");
  refused("/input/dtype", "int8", "dtype must be 'float32'");
  refused("/input/shape", {2, 0, 5}, "shape must hold integers from 1");
  refused("/input/shape", {2, 4, 5, 1}, "needs inputs and results of shape [C, H, W]");
  refused("/nodes/0/op", "exec", "unknown op 'exec'");
  refused("/nodes/0/shape", {4, 4, 6}, "does not follow");
  refused("/nodes/0/shape", {3, 4, 5}, "cannot be split into 2 groups");
  refused("/nodes/0/shape", {268435456, 268435456, 2}, "elements per sample");
  refused("/nodes/0/inputs", {"sum"}, "'sum' is no earlier node");
  refused("/nodes/0/inputs", {"conv"}, "'conv' is no earlier node");
  refused("/nodes/2/inputs", {"relu"}, "takes 2 inputs, got 1");
  refused("/nodes/1/name", "conv", "the name is used twice");
  refused("/nodes/1/name", "x", "the name is used twice");
  refused("/nodes/0/weight_bits", 9, "weight_bits must be an integer from 1 to 8, got 9");
  refused("/nodes/0/weight_bits", 0, "weight_bits");
  refused("/nodes/0/weight_bits", 4.0, "weight_bits must be an integer");
  refused("/nodes/0/act_bits", 9, "act_bits");
  refused("/nodes/0/act_signed", 1, "act_signed must be true or false");
  refused("/nodes/0/outputs", 4, "outputs is 4 but its geometry gives 2");
  refused("/nodes/0/inputs_per_output", 12, "inputs_per_output is 12 but its geometry gives 6");
  refused("/nodes/0/invocations", 1, "invocations is 1 but its geometry gives 20");
  refused("/nodes/5/repeats", 2, "repeats is 2 but its geometry gives 1");
  refused("/nodes/5/layer_name", "conv", "layer_name 'conv' is used twice");
  refused("/nodes/5/layer_index", 0, "layer_index 0 is used twice");
  refused("/nodes/0/attrs/stride", {0, 1}, "stride must hold integers from 1");
  refused("/nodes/0/attrs/stride", {1}, "stride must have 2 entries, got 1");
  refused("/nodes/0/attrs/padding", {-1, 0, 0, 0}, "padding must hold integers from 0");
  refused("/nodes/0/attrs/kernel", {9, 9}, "does not fit the padded input");
  refused("/nodes/0/attrs/kernel", {18446744073709551615ULL, 1}, "kernel must hold integers");
  refused("/nodes/0/attrs/groups", 0, "groups must be an integer from 1");
  refused("/nodes/0/attrs/mode", 1, "unknown key 'mode'");
  refused("/nodes/0/tensors/extra", "a", "unknown key 'extra'");
  refused("/nodes/0/tensors", json::object(), "'weight' is missing");
  refused("/nodes/1/attrs/x", 1, "unknown key 'x'");
  refused("/nodes/3/attrs/padding", {2, 2}, "at most half its kernel");
  refused("/nodes/0/act_zero", -3, "act_zero must be an integer from 0 to 0");  // its input has a sign
  refused("/chip", {{"seed", -1}, {"chip", 0}}, "seed must be an integer from 0");
}

TEST_CASE("Shapes of the shape ops follow from their attributes", "[layers]") {
  const auto accepted = [](const json& the_node, const json& in) {
    INFO(the_node.dump());
    CHECK_NOTHROW(read_layers(single(the_node, in).dump()));
  };
  const auto not_accepted = [](const json& the_node, const json& in, const char* part) {
    INFO(the_node.dump());
    CHECK_THROWS_WITH(read_layers(single(the_node, in).dump()), Contains(part));
  };
  const json none = json::object();
  accepted(node("slice", {{"start", {0, 1}}, {"stop", {2, 5}}, {"step", {1, 2}}}, {2, 2}), {2, 5});
  not_accepted(node("slice", {{"start", {0, 1}}, {"stop", {2, 6}}, {"step", {1, 2}}}, {2, 3}), {2, 5}, "stop <= 5");
  not_accepted(node("slice", {{"start", {2}}, {"stop", {2}}, {"step", {1}}}, {1}), {5}, "start < stop");
  accepted(node("pad", {{"before", {1, 0}}, {"after", {0, 2}}, {"value", 0}}, {3, 7}), {2, 5});
  not_accepted(node("pad", {{"before", {1}}, {"after", {0}}, {"value", 0}}, {3, 5}), {2, 5}, "must have 2 entries");
  not_accepted(node("pad", {{"before", {0}}, {"after", {0}}, {"value", 1e300}}, {2}), {2}, "must fit float32");
  accepted(node("cat", {{"dim", 0}}, {4, 5}, {"x", "x"}), {2, 5});
  not_accepted(node("cat", {{"dim", 2}}, {4, 5}, {"x", "x"}), {2, 5}, "dim must be below 2");
  accepted(node("mul", none, {2, 5}, {"x", "x"}), {2, 5});
  accepted(node("silu", none, {2, 5}), {2, 5});
  not_accepted(node("silu", none, {5, 2}), {2, 5}, "its shape does not follow");
  not_accepted(node("mul", none, {2, 5}), {2, 5}, "takes 2 inputs, got 1");
  accepted(node("reshape", none, {5, 2}), {2, 5});
  not_accepted(node("reshape", none, {5, 3}), {2, 5}, "cannot reshape [2, 5] to [5, 3]");
  accepted(node("flatten", none, {10}), {2, 5});
  accepted(node("clamp", {{"min", 0}, {"max", nullptr}}, {2}), {2});
  not_accepted(node("clamp", none, {2}), {2}, "needs min or max");
  not_accepted(node("clamp", {{"min", 0}, {"most", 1}}, {2}), {2}, "unknown key 'most'");
  accepted(node("avg_pool2d",
                {{"kernel", {2, 2}}, {"stride", {2, 1}}, {"padding", {1, 0}}, {"count_include_pad", false}}, {1, 3, 3}),
           {1, 4, 4});
  not_accepted(node("max_pool2d", {{"kernel", {3, 3}}, {"stride", {1, 1}}, {"padding", {0, 0}}, {"dilation", {2, 2}}},
                    {1, 1, 1}),
               {1, 4, 4}, "does not fit");
}

TEST_CASE("A product of values repeats dimensions of 1 and no others", "[layers]") {
  const auto product = [](const json& pooled) {
    json file = single(node("mul", json::object(), {2, 4, 3}, {"x", "gate"}), {2, 4, 3});
    json gate = {{"name", "gate"},  {"op", "slice"},           {"inputs", {"x"}},
                 {"shape", pooled}, {"attrs", json::object()}, {"tensors", json::object()}};
    gate["attrs"] = {{"start", {0, 0, 0}}, {"stop", pooled}, {"step", {1, 1, 1}}};
    file["nodes"].insert(file["nodes"].begin(), gate);
    return file.dump();
  };
  CHECK(read_layers(product({2, 1, 1})).nodes[1].shape == cimq::compiler::Shape{2, 4, 3});
  CHECK(read_layers(product({1, 4, 1})).nodes.size() == 2);
  CHECK_THROWS_WITH(read_layers(product({2, 2, 3})), Contains("one shape but for dimensions of 1"));
}

TEST_CASE("attributes of arithmetic, softmax and normalisations are bounded", "[layers]") {
  const auto read = [](const char* op, const json& attrs, const json& shape) {
    return read_layers(single(node(op, attrs, shape), shape).dump()).nodes[0];
  };
  const auto refuses = [&](const char* op, const json& attrs, const json& shape, const char* part) {
    INFO(op << " " << attrs.dump());
    CHECK_THROWS_WITH(read(op, attrs, shape), Contains(part) && Contains("node 'n'"));
  };
  CHECK(read("leaky_relu", {{"slope", -0.25}}, {3}).slope == -0.25F);
  CHECK(read("elu", {{"alpha", 2}}, {3}).alpha == 2.0F);
  CHECK(read("softmax", {{"dim", 1}}, {3, 2}).dim == 1);
  CHECK(read("layer_norm", {{"dims", 2}, {"eps", 1e-5}}, {3, 2}).eps == 1e-5);  // float64: not rounded
  CHECK(read("group_norm", {{"groups", 2}, {"eps", 0}}, {4, 5}).groups == 2);
  for (const json& value : {json("0.1"), json(nullptr), json(true), json({0.1})}) {
    refuses("leaky_relu", {{"slope", value}}, {3}, "slope must be a finite number");
    refuses("elu", {{"alpha", value}}, {3}, "alpha must be a finite number");
    refuses("layer_norm", {{"dims", 1}, {"eps", value}}, {3}, "eps must be a finite number");
    refuses("softmax", {{"dim", value}}, {3}, "dim must be an integer from 0");
    refuses("group_norm", {{"groups", value}, {"eps", 0}}, {4}, "groups must be an integer from 1");
  }
  refuses("leaky_relu", {{"slope", 1e39}}, {3}, "slope must fit float32");
  refuses("leaky_relu", json::object(), {3}, "'slope' is missing");
  refuses("elu", {{"alpha", 1}, {"scale", 1}}, {3}, "unknown key 'scale'");
  refuses("tanh", {{"approximate", "none"}}, {3}, "unknown key 'approximate'");
  refuses("softmax", {{"dim", -1}}, {3}, "dim must be an integer from 0");
  refuses("softmax", {{"dim", 2}}, {3, 4}, "dim must be below 2, got 2");
  refuses("log_softmax", {{"dim", 0}}, json::array(), "dim must be below 0");
  refuses("layer_norm", {{"dims", 0}, {"eps", 1e-5}}, {3}, "dims must be an integer from 1");
  refuses("layer_norm", {{"dims", 2}, {"eps", 1e-5}}, {3}, "dims must be at most 1, got 2");
  refuses("layer_norm", {{"dims", 1}, {"eps", -1e-30}}, {3}, "eps must be from 0 to");
  refuses("layer_norm", {{"dims", 1}, {"eps", 1e300}}, {3}, "eps must fit float32");
  refuses("group_norm", {{"groups", 3}, {"eps", 1e-5}}, {4, 5}, "groups must divide the 4 channels, got 3");
  refuses("group_norm", {{"groups", 1}, {"eps", 1e-5}}, json::array(), "needs a channel dimension");
  refuses("group_norm", {{"groups", 0}, {"eps", 1e-5}}, {4}, "groups must be an integer from 1");
  refuses("prelu", json::object(), {3}, "'weight' is missing");
  for (const char* op : {"add", "sub", "div", "minimum", "maximum"}) {
    refuses(op, json::object(), {3}, "takes 2 inputs, got 1");
  }
  refuses("fake_quantize", {{"low", 2}, {"high", 1}}, {3}, "low must be at most high, got 2 and 1");
  refuses("fake_quantize", {{"low", -65536}, {"high", 1}}, {3}, "low must be an integer from -65535");
  refuses("fake_quantize", {{"low", 0}, {"high", 1}}, {3}, "'scale' is missing");
  // Text that no JSON library writes: NaN and infinity.
  const std::string text = single(node("elu", {{"alpha", 12345}}, {3}), {3}).dump();
  for (const char* value : {"NaN", "Infinity", "-Infinity", "1e999"}) {
    std::string changed = text;
    changed.replace(changed.find("12345"), 5, value);
    INFO(value);
    CHECK_THROWS(read_layers(changed));
  }
}

TEST_CASE("a product of two values needs matrices that fit", "[layers]") {
  const auto product = [](const json& other, const json& out) {
    json file = single(node("matmul", json::object(), out, {"x", "r"}), {2, 4, 3});
    json reshaped = node("reshape", json::object(), other);
    reshaped["name"] = "r";
    file["nodes"].insert(file["nodes"].begin(), reshaped);
    return read_layers(file.dump());
  };
  CHECK(product({2, 3, 4}, {2, 4, 4}).nodes[1].shape == cimq::compiler::Shape{2, 4, 4});
  CHECK_THROWS_WITH(product({2, 4, 3}, {2, 4, 3}), Contains("needs inputs of shape [..., m, k] and [..., k, n]"));
  CHECK_THROWS_WITH(product({1, 3, 8}, {2, 4, 8}), Contains("got [2, 4, 3] and [1, 3, 8]"));
  CHECK_THROWS_WITH(product({6, 4}, {2, 4, 4}), Contains("got [2, 4, 3] and [6, 4]"));
}

TEST_CASE("a constant has no inputs and meets values of its rank", "[layers]") {
  const auto sum = [](const json& shape, const json& inputs) {
    json file = single(node("sub", json::object(), {2, 4, 3}, {"x", "c"}), {2, 4, 3});
    json constant = node("constant", json::object(), shape, inputs);
    constant["name"] = "c";
    constant["tensors"] = {{"value", "c.value"}};
    file["nodes"].insert(file["nodes"].begin(), constant);
    return read_layers(file.dump());
  };
  CHECK(sum({2, 1, 1}, json::array()).nodes[0].inputs.empty());
  CHECK(sum({1, 1, 1}, json::array()).nodes[1].shape == cimq::compiler::Shape{2, 4, 3});
  CHECK_THROWS_WITH(sum({2, 1, 1}, {"x"}), Contains("takes 0 inputs, got 1"));
  CHECK_THROWS_WITH(sum({3}, json::array()), Contains("one shape but for dimensions of 1"));
  CHECK_THROWS_WITH(sum({2, 4, 2}, json::array()), Contains("one shape but for dimensions of 1"));
  CHECK_THROWS_WITH(sum({268435456, 2, 1}, json::array()), Contains("elements per sample"));
}

TEST_CASE("hostile attributes of every operator are refused by name, or fit", "[layers]") {
  // Each attribute of each row in turn, and missing and unknown keys: what is accepted has the shape that its rule
  // gives.
  const std::vector<json> values = {nullptr,
                                    true,
                                    "x",
                                    "",
                                    0,
                                    -1,
                                    1,
                                    2,
                                    7,
                                    65536,
                                    65537,
                                    268435456,
                                    INT64_MAX,
                                    INT64_MIN,
                                    UINT64_MAX,
                                    0.5,
                                    -0.0,
                                    1e39,
                                    -1e300,
                                    1e-320,
                                    json::array(),
                                    json::object(),
                                    {0},
                                    {1, 1},
                                    {1, 1, 1},
                                    {0, 1, 2},
                                    {-1, 1},
                                    {2, 2, 2, 2},
                                    {65536, 65536},
                                    {268435456, 268435456, 268435456},
                                    {INT64_MAX, INT64_MAX},
                                    {"a", 1}};
  const std::vector<json> shapes = {json::array(), {1}, {6}, {4, 5}, {4, 5, 6}, {4, 2, 2}, {1, 1, 1, 1}};
  int accepted = 0;
  int refusals = 0;
  for (const auto& row : cimq::compiler::operators()) {
    json inputs = json::array();
    for (std::size_t i = 0; i < row.min_inputs; ++i) inputs.push_back("x");
    const auto try_one = [&](const json& attrs, const json& in, const json& out) {
      json the_node = node(std::string(row.name).c_str(), attrs, out, inputs);
      for (const char* role : row.tensors) the_node["tensors"][role] = "t";
      try {
        const auto graph = read_layers(single(the_node, in).dump());
        REQUIRE(cimq::compiler::infer_shape(graph, graph.nodes[0]) == graph.nodes[0].shape);
        ++accepted;
      } catch (const cimq::Error& error) {
        const std::string text = error.what();
        INFO(row.name << " " << attrs.dump() << ": " << text);
        REQUIRE(text.find("node 'n'") != std::string::npos);
        ++refusals;
      }
    };
    json usual = json::object();
    for (const auto& attribute : row.attributes) usual[attribute.key] = 1;
    for (const json& in : shapes) {
      for (const auto& attribute : row.attributes) {
        for (const json& value : values) {
          json attrs = usual;
          attrs[attribute.key] = value;
          for (const json& out : shapes) try_one(attrs, in, out);
          for (const auto& other : row.attributes) attrs[other.key] = value;  // all of them alike
          try_one(attrs, in, in);
        }
        json attrs = usual;
        attrs.erase(attribute.key);
        try_one(attrs, in, in);
      }
      usual["unknown"] = 1;
      try_one(usual, in, in);
      usual.erase("unknown");
      for (const json& out : shapes) try_one(usual, in, out);
    }
  }
  CHECK(accepted > 100);
  CHECK(refusals > 1000);
}
