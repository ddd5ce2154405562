// Layers that overlap by rows: which rows are needed, in what order they come, what the verifier makes of them, and the
// time that it saves.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <string>

#include "common/error.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/ir/rows.h"
#include "compiler/passes/check.h"
#include "compiler/passes/duplicate.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/place.h"
#include "compiler/passes/schedule.h"
#include "compiler/passes/tile.h"
#include "compiler/plan/options.h"
#include "compiler/sim/simulate.h"
#include "compiler/verify/program.h"

using namespace cimq::compiler;
using Catch::Matchers::Contains;
using Kind = RowSet::Kind;

namespace {

/// Convolutions of one tile each, one after the other, on images of `size` x `size`.
Graph convolutions(int layers, std::int64_t kernel, std::int64_t size) {
  Graph graph;
  graph.input_name = "x";
  graph.input_shape = {4, size, size};
  for (int i = 0; i < layers; ++i) {
    Node node;
    node.name = "n" + std::to_string(i);
    node.op = OpKind::kCrossbarConv2d;
    node.inputs = {i - 1};
    node.shape = {4, size, size};
    node.window.kernel = {kernel, kernel};
    node.window.pad_left = node.window.pad_right = node.window.pad_top = node.window.pad_bottom = kernel / 2;
    for (const char* role : {"weight", "x_scale", "multiplier", "bias"}) node.tensors[role] = node.name + "." + role;
    CrossbarLayer layer;
    layer.layer_name = node.name;
    layer.layer_index = static_cast<std::uint32_t>(i);
    layer.outputs = 4;
    layer.inputs_per_output = 4 * kernel * kernel;
    layer.invocations = size * size;
    node.crossbar = layer;
    graph.nodes.push_back(node);
  }
  graph.output = layers - 1;
  return graph;
}

Module in_rows(const Graph& graph, const Duplication& copies = CopyRule::kNone) {
  Module module;
  module.graph = graph;
  module.hardware.resources.crossbars.reset();
  Context context;
  context.duplication = copies;
  run_pipeline(
      {tile_pass(), duplicate_pass(), place_stationary_pass(), schedule_pass(), lower_in_rows_pass(), verify_pass()},
      module, context);
  return module;
}

std::int64_t time_of(const Module& module) { return simulate(*module.program, module.graph).time_ps; }

/// Rows in order that every node needs of its first input for its first rows.
std::vector<std::int64_t> needed(const Graph& graph, std::size_t node, std::size_t input = 0) {
  std::vector<std::int64_t> rows;
  for (std::int64_t end = 1; end <= rows_of(graph.nodes[node].shape); ++end) {
    rows.push_back(rows_needed(graph, graph.nodes[node], input, end));
  }
  return rows;
}

constexpr std::int64_t kVector = 8 * 1'400'000;  // eight digits, in ps

}  // namespace

TEST_CASE("Rows of an input that rows of a result need", "[rows]") {
  using Rows = std::vector<std::int64_t>;
  Graph graph = convolutions(1, 3, 5);
  CHECK(needed(graph, 0) == Rows{2, 3, 4, 5, 5});
  CHECK(comes_in_rows(graph, graph.nodes[0]));
  CHECK(vectors_per_row(graph.nodes[0]) == 5);
  const auto node = [&](OpKind op, const Shape& shape, const std::vector<int>& inputs = {0}) {
    Node more;
    more.name = "m" + std::to_string(graph.nodes.size());
    more.op = op;
    more.inputs = inputs;
    more.shape = shape;
    graph.nodes.push_back(more);
    return graph.nodes.size() - 1;
  };
  const std::size_t pool = node(OpKind::kMaxPool2d, {4, 2, 2});
  graph.nodes[pool].window.kernel = graph.nodes[pool].window.stride = {2, 2};
  CHECK(needed(graph, pool) == Rows{2, 4});
  const std::size_t pad = node(OpKind::kPad, {4, 8, 5});
  graph.nodes[pad].pad_before = {0, 2, 0};
  graph.nodes[pad].pad_after = {0, 1, 0};
  CHECK(needed(graph, pad) == Rows{1, 1, 1, 2, 3, 4, 5, 5});
  const std::size_t slice = node(OpKind::kSlice, {4, 2, 5});
  graph.nodes[slice].slice_start = {0, 1, 0};
  graph.nodes[slice].slice_stop = {4, 5, 5};
  graph.nodes[slice].slice_step = {1, 3, 1};
  CHECK(needed(graph, slice) == Rows{2, 5});
  const std::size_t cat = node(OpKind::kCat, {4, 10, 5}, {0, 0});
  graph.nodes[cat].dim = 1;
  CHECK(needed(graph, cat, 0) == Rows{1, 2, 3, 4, 5, 5, 5, 5, 5, 5});
  CHECK(needed(graph, cat, 1) == Rows{1, 1, 1, 1, 1, 1, 2, 3, 4, 5});
  const std::size_t scale = node(OpKind::kSigmoid, {4, 1, 1}, {});
  const std::size_t mul = node(OpKind::kMul, {4, 5, 5}, {0, static_cast<int>(scale)});
  CHECK(needed(graph, mul, 0) == Rows{1, 2, 3, 4, 5});
  CHECK(needed(graph, mul, 1) == Rows{1, 1, 1, 1, 1});
  const std::size_t mean = node(OpKind::kAdaptiveAvgPool2d, {4, 2, 1});
  CHECK_FALSE(comes_in_rows(graph, graph.nodes[mean]));
  CHECK(needed(graph, mean) == Rows{5, 5});
  const std::size_t softmax = node(OpKind::kSoftmax, {4, 5, 5});
  CHECK(comes_in_rows(graph, graph.nodes[softmax]));
  graph.nodes[softmax].dim = 1;
  CHECK_FALSE(comes_in_rows(graph, graph.nodes[softmax]));
}

TEST_CASE("Rows at once: few, and copies are busy", "[rows]") {
  CHECK(rows_at_once({56, 56}, 1) == 1);
  CHECK(rows_at_once({56, 56}, 28) == 1);
  CHECK(rows_at_once({56, 56}, 112) == 2);
  CHECK(rows_at_once({56, 56}, 40) == 2);  // 3 turns for 2 rows instead of 4
  CHECK(rows_at_once({1, 1}, 1) == 1);
  CHECK(rows_at_once({7, 7}, 49) == 7);
  // What an option costs is what its rows take: 56 rows of 2 turns with 28 copies and with 40 in pairs of 3.
  const LayerLoad load{2, 1, 56 * 56, 10};
  const LayerOptions options = options_in_rows(load, {56, 56}, 100);
  CHECK(options.front().time_ps == 56 * 56 * 10);
  for (const LayerOption& option : options) {
    const std::int64_t at_once = rows_at_once({56, 56}, option.copies);
    CHECK(option.crossbars == 2 * option.copies);
    const std::int64_t turns = (56 + at_once - 1) / at_once * ((at_once * 56 + option.copies - 1) / option.copies);
    CHECK(option.time_ps == static_cast<std::uint64_t>(turns) * 10);
  }
  CHECK(options.back().crossbars <= 100);
}

TEST_CASE("A layer begins when the rows that it needs are there", "[rows]") {
  // 1 x 1: the second layer is a row behind, the third two.
  CHECK(time_of(in_rows(convolutions(1, 1, 8))) == 64 * kVector);
  CHECK(time_of(in_rows(convolutions(3, 1, 8))) == (64 + 2 * 8) * kVector);
  // 3 x 3: two rows behind each.
  CHECK(time_of(in_rows(convolutions(3, 3, 8))) == (64 + 2 * 2 * 8) * kVector);
  // Copies divide both.
  const Duplication four = std::map<std::string, std::int64_t>{{"n0", 4}, {"n1", 4}, {"n2", 4}};
  CHECK(time_of(in_rows(convolutions(3, 1, 8), four)) == (64 + 2 * 8) / 4 * kVector);
}

TEST_CASE("Row sets that come again are loops", "[rows]") {
  const Module module = in_rows(convolutions(4, 3, 64));
  CHECK(module.schedule->size() > 400);
  CHECK(module.program->code.size() < 400);
  const std::string text = write_program(*module.program);
  CHECK_THAT(text, Contains(R"("version":"1.3.0")") && Contains(R"("row":[)"));
  std::int64_t rows = 0;
  for (const RowSet& set : *module.schedule) {
    if (set.kind == Kind::kMultiply && set.node == 3) {
      CHECK(set.first == rows);
      rows += set.count;
    }
  }
  CHECK(rows == 64);
}

TEST_CASE("Rows come in order, and when what they need is there", "[rows]") {
  const Graph graph = convolutions(2, 3, 4);
  const Program right = *in_rows(graph).program;
  REQUIRE_NOTHROW(verify_program(right, graph));
  const auto refused = [&](const auto& change, const char* part) {
    Program program = right;
    change(program.code);
    CHECK_THROWS_WITH(verify_program(program, graph), Contains("program.jsonl: ") && Contains(part));
  };
  const auto find = [](std::vector<isa::Instruction>& code, const auto& is) {
    const auto found = std::ranges::find_if(code, is);
    REQUIRE(found != code.end());
    return found;
  };
  const auto first_quantize = [](std::int64_t layer) {
    return [layer](const isa::Instruction& i) {
      const auto* quantize = std::get_if<isa::Quantize>(&i);
      return quantize != nullptr && quantize->layer == layer && quantize->rows;
    };
  };
  const auto first_requantize = [](const isa::Instruction& i) { return std::holds_alternative<isa::Requantize>(i); };
  refused([&](auto& code) { std::get<isa::Quantize>(*find(code, first_quantize(0))).rows->count = 1; },
          "needs the first 2 rows of 'n0.x_q', of which 1 are quantised");
  refused([&](auto& code) { std::get<isa::Quantize>(*find(code, first_quantize(1))).rows->count = 4; },
          "needs the first 4 rows of 'n0', of which");
  refused([&](auto& code) { std::get<isa::Quantize>(*find(code, first_quantize(1))).rows->first.base += 1; },
          "needs the first 2 rows of 'n0', of which 1 are computed");
  refused([&](auto& code) { std::get<isa::Requantize>(*find(code, first_requantize)).rows->first.base += 1; },
          "'n0.y' has 0 of the 4 results of layer 'n0'");
  refused([&](auto& code) { std::get<isa::Requantize>(*find(code, first_requantize)).rows->count = 9; },
          "rows must lie in [0, 4), got 9 from 0 on");
  refused([&](auto& code) { code.erase(find(code, first_requantize)); }, "'n0' is read before it is computed");
  refused([&](auto& code) { code.insert(find(code, first_requantize), *find(code, first_requantize)); },
          "the next row of 'n0' is 1, got 0");
}
