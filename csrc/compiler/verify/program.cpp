#include "compiler/verify/program.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "common/error.h"
#include "common/mapping.h"
#include "compiler/ir/limits.h"
#include "compiler/ir/rows.h"
#include "compiler/ir/tiling.h"
#include "compiler/verify/layer.h"
#include "compiler/verify/loops.h"
#include "compiler/verify/products.h"
#include "compiler/verify/state.h"
#include "compiler/verify/values.h"

namespace cimq::compiler {
namespace {

using verify::Affine;
using verify::Box;
using verify::Layer;
using verify::Products;
using verify::Range;
using verify::Register;
using verify::RowSpan;
using verify::State;

/// Most instructions that are looked at, those of unrolled loops as often as they run.
constexpr std::int64_t kMaxSteps = std::int64_t{1} << 24;

class Verifier {
 public:
  Verifier(const Program& program, const Graph& graph)
      : program_(program),
        graph_(graph),
        ends_(loop_ends(program)),
        unrolled_(verify::unrolled_loops(program, ends_)),
        values_(graph) {
    for (const Node& node : graph.nodes) nodes_[node.name] = &node;
  }

  ProgramCounts run() {
    check(program_.input == graph_.input_name, "program.jsonl: line 1: input must be '", graph_.input_name, "'");
    const auto is_ready = [](const isa::Instruction& i) { return std::holds_alternative<isa::Ready>(i); };
    const auto ready = std::ranges::find_if(program_.code, is_ready);
    const auto split = static_cast<std::size_t>(ready - program_.code.begin());
    const std::size_t end = program_.code.size();
    if (split == end) {
      walk(0, end, 1, true);
    } else {
      setup_ = true;
      walk(0, split, 1, true);
      setup_ = false;
      walk(split + 1, end, 1, true);
      // The next sample finds the crossbars as this one left them.
      walk(split + 1, end, 1, false);
    }
    finish();
    return counts_;
  }

 private:
  ProgramLine where() const { return line_of(at_); }

  /// Walks [begin, end), which runs `times` times. `counting` is false in a second look, at what was seen before, from
  /// the state that it left: only what crossbars and registers hold matters then.
  void walk(std::size_t begin, std::size_t end, std::int64_t times, bool counting) {
    for (std::size_t at = begin; at < end; ++at) {
      at_ = at;
      times_ = times;
      counting_ = counting;
      spend(1);
      const isa::Instruction& instruction = program_.code[at];
      check(!setup_ || is_setup(instruction), where(), ": before READY there are only CFG, WRITE and loops");
      if (const auto* loop = std::get_if<isa::Loop>(&instruction)) {
        walk_loop(at, *loop, times, counting);
        at = ends_[at];
      } else {
        std::visit([this](const auto& i) { visit(i); }, instruction);
      }
    }
  }

  /// A hostile file asks for more work than anyone would wait for.
  void spend(std::int64_t steps) {
    steps_ += steps;
    check(steps_ <= kMaxSteps, where(), ": more than ", kMaxSteps, " instructions, unrolled loops counted");
  }

  static bool is_setup(const isa::Instruction& i) {
    return std::holds_alternative<isa::Configure>(i) || std::holds_alternative<isa::Write>(i) ||
           std::holds_alternative<isa::Loop>(i);
  }

  void walk_loop(std::size_t at, const isa::Loop& loop, std::int64_t times, bool counting) {
    const std::size_t close = ends_[at];
    loops_.open({loop.variable, loop.count, unrolled_[at], 0}, where());
    if (unrolled_[at]) {
      if (counting) products_.open_loop();
      for (std::int64_t i = 0; i < loop.count; ++i) {
        loops_.set_value(i);
        walk(at + 1, close, times, counting);
      }
      if (counting) products_.close_walked_loop();
    } else {
      const std::int64_t inner = multiplied(times, loop.count);
      const std::size_t depth = loops_.depth() - 1;
      state_.open_loop();
      if (counting) products_.open_loop();
      walk(at + 1, close, inner, counting);
      if (loop.count > 1) {
        // Crossbars and registers now hold what an iteration leaves: the body must be right from there as well.
        state_.next_iteration(depth);
        walk(at + 1, close, inner, false);
      }
      state_.close_loop(depth, loop.count);
      if (counting) products_.close_loop(depth, loop.count);
    }
    loops_.close();
  }

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

  void visit(const isa::Configure& i) {
    if (!counting_) return;
    check(loops_.empty(), where(), ": CFG must stand outside of loops");
    check(i.layer == static_cast<std::int64_t>(layers_.size()), where(), ": layer must be ", layers_.size());
    const Node& node = node_of(i.node);
    check(node.crossbar && i.name == compiler::crossbar_of(node).layer_name, where(), ": '", i.node,
          "' is not the crossbar layer '", i.name, "'");
    check(configured_.insert(&node).second, where(), ": '", i.node, "' has a CFG already");
    const CrossbarLayer& facts = compiler::crossbar_of(node);
    const Layer layer{&node, tile_layer(program_.hardware, facts)};
    check(layer.is_described_by(i), where(), ": CFG does not describe layer '", facts.layer_name, "' on this hardware");
    tiles_ += layer.tiling.tiles();
    check(tiles_ <= kMaxTiles, where(), ": more than ", kMaxTiles, " tiles");
    layers_.push_back(layer);
    products_.add_layer(
        {facts.layer_name, layer.tiling.tiles(), layer.tiling.digits, facts.repeats, facts.invocations});
  }

  void visit(const isa::Quantize& i) {
    const Layer& layer = layer_of(i.layer);
    if (i.operand) return quantise_operand(layer, i);
    const CrossbarLayer& facts = layer.facts();
    const std::int64_t magnitudes = std::int64_t{1} << (facts.act_bits - (facts.act_signed ? 1 : 0));
    check(i.lo == (facts.act_signed ? -magnitudes : 0) && i.hi == magnitudes - 1, where(),
          ": the range must be that of ", facts.act_bits, " bits");
    check(i.zero == facts.act_zero, where(), ": zero must be ", facts.act_zero, ", got ", i.zero);
    const RowSpan rows = span_of(i.rows, rows_of(graph_.shape_of(layer.node->inputs[0])));
    read_node(i.src, name_of_input(*layer.node, 0), rows.end);
    is_tensor(layer, "x_scale", i.scale);
    const Register content{Register::kQuantized, i.layer, {}, {}};
    if (rows.begin > 0) hold(i.dst, content);
    set(i.dst, content);
    values_.quantise(i.dst, rows, where());
  }

  void quantise_operand(const Layer& layer, const isa::Quantize& i) {
    check(layer.writes_operand(), where(), ": layer ", i.layer, " has no input that its crossbars hold");
    const IntegerRange range = weight_range(layer.facts().weight_bits);
    check(i.lo == range.lo && i.hi == range.hi && i.zero == 0, where(), ": the range must be that of weights of ",
          layer.facts().weight_bits, " bits, with zero 0");
    check(!i.rows, where(), ": an input that crossbars hold is quantised as a whole");
    read_node(i.src, name_of_input(*layer.node, 1), rows_of(graph_.shape_of(layer.node->inputs[1])));
    is_tensor(layer, "w_scale", i.scale);
    set(i.dst, {Register::kOperand, i.layer, {}, {}});
  }

  void visit(const isa::Write& i) {
    const Layer& layer = layer_of(i.layer);
    const std::int64_t tile = tile_of(layer, i.tile);
    const isa::Region region = layer.tiling.region(tile);
    check(!i.region || *i.region == region, where(), ": tile ", tile, " must be rows ", region.row_begin, "..",
          region.row_end, ", columns ", region.column_begin, "..", region.column_end);
    const std::int64_t crossbar = crossbar_of(i.crossbar);
    const auto& crossbars = program_.hardware.resources.crossbars;
    check(!crossbars || crossbar < *crossbars, where(), ": the hardware has ", crossbars.value_or(0),
          " crossbars, got number ", crossbar);
    check(crossbar < kMaxCrossbars, where(), ": a program uses crossbars 0 to ", kMaxCrossbars - 1, ", got number ",
          crossbar);
    is_weight(layer, i.layer, i.weight);
    state_.write(crossbar, {i.layer, tile, bounded("repeat", i.repeat, layer.facts().repeats)});
    if (counting_) add(setup_ ? counts_.setup_writes : counts_.writes, times_);
  }

  void visit(const isa::Gather& i) {
    const Layer& layer = layer_of(i.layer);
    hold(i.src, {Register::kQuantized, i.layer, {}, {}});
    const Affine at = bounded("at", i.at, layer.facts().invocations);
    const std::int64_t row = verify::highest(at, loops_.counts()) / vectors_per_row(*layer.node);
    values_.need_quantised(i.src, rows_needed(graph_, *layer.node, 0, row + 1), where());
    set(i.dst, {Register::kVector, i.layer, bounded("repeat", i.repeat, layer.facts().repeats), at}, lane_of(i.lane));
  }

  void visit(const isa::Mvm& i) {
    const Layer& layer = layer_of(i.layer);
    const std::int64_t tile = tile_of(layer, i.tile);
    const std::int64_t crossbar = crossbar_of(i.crossbar);
    const Affine repeat = bounded("repeat", i.repeat, layer.facts().repeats);
    const Affine at = bounded("at", i.at, layer.facts().invocations);
    check(state_.holds(crossbar, {i.layer, tile, repeat}), where(), ": crossbar ", crossbar, " does not hold tile ",
          tile, " of layer ", i.layer);
    check(i.digit_begin >= 0 && i.digit_begin < i.digit_end && i.digit_end <= layer.tiling.digits, where(),
          ": digits must lie in [0, ", layer.tiling.digits, ")");
    hold(i.src, {Register::kVector, i.layer, repeat, at}, lane_of(i.lane));
    set(i.acc, {Register::kAcc, i.layer, {}, {}});
    if (!counting_) return;
    const Box box{i.layer, tile, i.digit_begin, i.digit_end, {repeat, 1}, {at, 1}, at_, 0};
    products_.made(box, i.acc);
    add(counts_.mvms, multiplied(times_, i.digit_end - i.digit_begin));
  }

  void visit(const isa::ShiftAdd& i) {
    const Layer& layer = layer_of(i.layer);
    bool fits = static_cast<int>(i.shifts.size()) == layer.tiling.slices;
    for (std::size_t s = 0; fits && s < i.shifts.size(); ++s) {
      fits = i.shifts[s] == static_cast<std::int64_t>(s) * program_.hardware.cell_bits;
    }
    check(fits, where(), ": shifts must be one multiple of ", program_.hardware.cell_bits, " per slice");
    hold(i.acc, {Register::kAcc, i.layer, {}, {}});
    const CrossbarLayer& facts = layer.facts();
    const Range repeat = i.repeat ? Range{bounded("repeat", *i.repeat, facts.repeats), 1} : Range{{}, facts.repeats};
    const Range at = i.at ? Range{bounded("at", *i.at, facts.invocations), 1} : Range{{}, facts.invocations};
    set(i.dst, {Register::kY, i.layer, {}, {}});
    if (!counting_) return;
    spend(layer.tiling.tiles());
    products_.add_up({i.layer, 0, 0, 1, repeat, at, at_, 0}, i.acc, i.dst, loops_.counts());
  }

  void visit(const isa::Requantize& i) {
    const Layer& layer = layer_of(i.layer);
    check(i.dst == layer.node->name, where(), ": dst must be '", layer.node->name, "'");
    const int zero = layer.facts().act_zero;
    check(i.zero == zero, where(), ": zero must be ", zero, ", got ", i.zero);
    if (zero != 0) is_weight(layer, i.layer, i.weight);
    hold(i.src, {Register::kY, i.layer, {}, {}});
    is_tensor(layer, "multiplier", i.multiplier);
    const bool adds_nothing = layer.writes_operand();
    if (!adds_nothing) is_tensor(layer, "bias", i.bias);
    check(!adds_nothing || i.bias.empty(), where(), ": layer ", i.layer, " has no bias");
    const RowSpan rows = span_of(*layer.node, i.rows);
    if (!counting_) return;
    const std::int64_t each = vectors_per_row(*layer.node);
    products_.check_complete(i.src, i.layer, {{rows.begin * each, {}}, (rows.end - rows.begin) * each}, where());
    produce(*layer.node, rows);
  }

  void visit(const isa::Vector& i) {
    const Node& node = node_of(i.dst);
    check(!node.crossbar && i.fn == name_of(node.op), where(), ": '", i.dst, "' is computed by ", name_of(node.op));
    check(i.src.size() == node.inputs.size(), where(), ": ", i.fn, " of '", i.dst, "' has ", node.inputs.size(),
          " inputs");
    const RowSpan rows = span_of(node, i.rows);
    for (std::size_t k = 0; k < i.src.size(); ++k) {
      const std::string& name = name_of_input(node, k);
      check(i.src[k] == name, where(), ": input ", k, " of '", i.dst, "' must be '", name, "'");
      read_node(name, name, rows_needed(graph_, node, k, rows.end));
    }
    if (counting_) produce(node, rows);
  }

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

  /// The register holds what is needed.
  void hold(const std::string& name, const Register& wanted, std::int64_t lane = 0) const {
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
    hold(name, {Register::kOperand, number, {}, {}});
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

  void finish() {
    values_.check_complete(graph_);
    const std::string& output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
    check(program_.output == output, "program.jsonl: line 1: output must be '", output, "'");
    products_.check_all();
    const ProgramCounts& stated = program_.counts;
    check(counts_ == stated, "program.jsonl: line 1 states ", stated.writes, " writes, ", stated.setup_writes,
          " before READY, and ", stated.mvms, " MVMs, the program has ", counts_.writes, ", ", counts_.setup_writes,
          " and ", counts_.mvms);
  }

  const Program& program_;
  const Graph& graph_;
  std::vector<std::size_t> ends_;
  std::vector<bool> unrolled_;
  std::unordered_map<std::string, const Node*> nodes_;
  verify::Values values_;
  std::set<const Node*> configured_;
  std::vector<Layer> layers_;
  verify::OpenLoops loops_;
  State state_;
  Products products_;
  std::int64_t tiles_ = 0;
  std::int64_t steps_ = 0;
  ProgramCounts counts_;
  std::size_t at_ = 0;  // instruction looked at
  std::int64_t times_ = 1;
  bool counting_ = true;
  bool setup_ = false;
};

}  // namespace

ProgramCounts verify_program(const Program& program, const Graph& graph) { return Verifier(program, graph).run(); }

}  // namespace cimq::compiler
