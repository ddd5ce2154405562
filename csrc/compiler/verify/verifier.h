// Walks through a program and refuses what does not do its network's work (program.h).
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/error.h"
#include "compiler/ir/graph.h"
#include "compiler/ir/limits.h"
#include "compiler/ir/rows.h"
#include "compiler/isa/program.h"
#include "compiler/verify/layer.h"
#include "compiler/verify/loops.h"
#include "compiler/verify/products.h"
#include "compiler/verify/state.h"
#include "compiler/verify/values.h"

namespace cimq::compiler::verify {

/// Most instructions that are looked at, those of unrolled loops as often as they run.
inline constexpr std::int64_t kMaxSteps = std::int64_t{1} << 24;

class Verifier {
 public:
  Verifier(const Program& program, const Graph& graph)
      : program_(program),
        graph_(graph),
        ends_(loop_ends(program)),
        unrolled_(unrolled_loops(program, ends_)),
        values_(graph) {
    for (const Node& node : graph.nodes) nodes_[node.name] = &node;
  }

  ProgramCounts run();

 private:
  ProgramLine where() const { return line_of(at_); }

  /// Walks [begin, end), which runs `times` times. `counting` is false in a second look, at what was seen before, from
  /// the state that it left: only what crossbars and registers hold matters then.
  void walk(std::size_t begin, std::size_t end, std::int64_t times, bool counting);

  /// A hostile file asks for more work than anyone would wait for.
  void spend(std::int64_t steps) {
    steps_ += steps;
    check(steps_ <= kMaxSteps, where(), ": more than ", kMaxSteps, " instructions, unrolled loops counted");
  }

  static bool is_setup(const isa::Instruction& i) {
    return std::holds_alternative<isa::Configure>(i) || std::holds_alternative<isa::Write>(i) ||
           std::holds_alternative<isa::Loop>(i);
  }

  /// What samples share, and what stands around it.
  static bool is_shared(const isa::Instruction& i) { return is_setup(i) || std::holds_alternative<isa::End>(i); }

  /// Whether values are those of one sample.
  bool of_one_sample() const { return program_.batch == 1 || loops_.in_samples(); }

  void walk_loop(std::size_t at, const isa::Loop& loop, std::int64_t times, bool counting);
  void walk_samples(std::size_t at, const isa::Loop& loop, std::int64_t times, bool counting);

  std::int64_t multiplied(std::int64_t a, std::int64_t b) const {
    check(a <= INT64_MAX / b, where(), ": the loops run more than 2^63 times");
    return a * b;
  }

  void add(std::int64_t& count, std::int64_t more) const {
    check(!__builtin_add_overflow(count, more, &count), where(), ": the program runs more than 2^63 times");
  }

  void visit(const isa::Loop&) {}  // walk() handles loops itself
  void visit(const isa::End&) {}
  void visit(const isa::Ready&) { throw Error(message(where(), ": READY must stand once, outside of loops")); }
  void visit(const isa::Configure& i);
  void visit(const isa::Quantize& i);
  void quantise_operand(const Layer& layer, const isa::Quantize& i);
  void visit(const isa::Write& i);
  void visit(const isa::Gather& i);
  void visit(const isa::Mvm& i);
  void visit(const isa::ShiftAdd& i);
  void visit(const isa::Requantize& i);
  void visit(const isa::Vector& i);

  /// Rows that an instruction names; all where it names none.
  RowSpan span_of(const std::optional<isa::Rows>& rows, std::int64_t all) const {
    if (!rows) return {0, all};
    const std::int64_t first = loops_.evaluate(rows->first, where()).base;  // its loops are walked
    check(rows->count >= 1 && first < all && rows->count <= all - first, where(), ": rows must lie in [0, ", all,
          "), got ", rows->count, " from ", first, " on");
    return {first, first + rows->count};
  }
  /// Of a node's result.
  RowSpan span_of(const Node& node, const std::optional<isa::Rows>& rows) const {
    const RowSpan span = span_of(rows, rows_of(node.shape));
    check(span.end - span.begin == rows_of(node.shape) || comes_in_rows(graph_, node), where(), ": '", node.name,
          "' is not computed in rows");
    return span;
  }

  const std::string& name_of_input(const Node& node, std::size_t k) const {
    const int input = node.inputs[k];
    return input < 0 ? graph_.input_name : graph_.nodes[static_cast<std::size_t>(input)].name;
  }

  /// `value` must be `wanted`, the input of the network or the result of a node, and its first `rows` rows computed.
  void read_node(const std::string& value, const std::string& wanted, std::int64_t rows) const {
    check(values_.any(value), where(), ": '", value, "' is read before it is computed");
    check(value == wanted, where(), ": must read '", wanted, "', got '", value, "'");
    values_.need(value, rows, where());
  }

  /// What a crossbar holds of a layer.
  Held held(const Layer& layer, std::int64_t number, std::int64_t tile, const Affine& repeat) const {
    return {number, tile, repeat, layer.writes_operand() ? state_.sample() : 0};
  }

  /// The register holds what is needed.
  void hold(const std::string& name, const Register& wanted, std::int64_t lane = 0) const {
    if (again_) return;  // so it did for the sample before
    const Register* found = state_.find(name, lane);
    check(found != nullptr || values_.any(name), where(), ": '", name, "' is read before it is computed");
    check(found != nullptr && *found == wanted, where(), ": '", name, "' does not hold ", verify::text_of(wanted));
  }

  void set(const std::string& name, const Register& content, std::int64_t lane = 0) {
    check(!nodes_.contains(name) && name != program_.input, where(), ": '", name, "' is the name of a node");
    const Register* before = state_.find(name, lane);
    // Sums of another layer in the same place are gone.
    if (counting_ && (before == nullptr || before->kind != content.kind || before->layer != content.layer)) {
      products_.forget(name);
    }
    state_.set(name, lane, content);
  }

  void is_tensor(const Layer& layer, const char* role, const std::string& key) const {
    const std::string& wanted = layer.tensor(role);
    check(key == wanted, where(), ": ", role, " must be '", wanted, "', got '", key, "'");
  }

  /// What crossbars are written from.
  void is_weight(const Layer& layer, std::int64_t number, const std::string& name) const {
    if (!layer.writes_operand()) return is_tensor(layer, "weight", name);
    hold(name, {Register::kOperand, number, {}, {}, 0});
  }

  void produce(const Node& node, const RowSpan& rows) {
    check(loops_.all_walked(), where(), ": '", node.name, "' must be computed outside of loops that are not over rows");
    values_.produce(node, rows, where());
  }

  /// An index that must be below `count` in every iteration.
  Affine bounded(const char* what, const isa::Index& index, std::int64_t count) const {
    const Affine value = loops_.evaluate(index, where());
    const std::int64_t highest = verify::highest(value, loops_.counts());
    check(highest < count, where(), ": ", what, " must lie in [0, ", count, "), got ", highest);
    return value;
  }

  const Node& node_of(const std::string& name) const {
    const auto found = nodes_.find(name);
    check(found != nodes_.end(), where(), ": the network has no node '", name, "'");
    return *found->second;
  }

  const Layer& layer_of(std::int64_t number) const {
    check(number >= 0 && number < static_cast<std::int64_t>(layers_.size()), where(), ": layer ", number,
          " has no CFG before");
    return layers_[static_cast<std::size_t>(number)];
  }

  std::int64_t tile_of(const Layer& layer, const isa::Index& index) const {
    const std::int64_t number = loops_.evaluate(index, where()).base;  // its loops are unrolled
    check(number < layer.tiling.tiles(), where(), ": the layer has ", layer.tiling.tiles(), " tiles, got number ",
          number);
    return number;
  }

  std::int64_t crossbar_of(const isa::Index& index) const { return loops_.evaluate(index, where()).base; }

  std::int64_t lane_of(const isa::Index& index) const {
    const std::int64_t number = loops_.evaluate(index, where()).base;
    check(number < kMaxCrossbars, where(), ": lanes go from 0 to ", kMaxCrossbars - 1, ", got number ", number);
    return number;
  }

  void finish();

  const Program& program_;
  const Graph& graph_;
  std::vector<std::size_t> ends_;
  std::vector<bool> unrolled_;
  std::unordered_map<std::string, const Node*> nodes_;
  Values values_;
  std::set<const Node*> configured_;
  std::vector<Layer> layers_;
  OpenLoops loops_;
  State state_;
  Products products_;
  std::int64_t tiles_ = 0;
  std::int64_t steps_ = 0;
  ProgramCounts counts_;
  std::size_t at_ = 0;  // instruction looked at
  std::int64_t times_ = 1;
  bool counting_ = true;
  bool setup_ = false;
  bool again_ = false;  // a second sample
};

}  // namespace cimq::compiler::verify
