#include "compiler/passes/verify.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "common/error.h"

namespace cimq::compiler {
namespace {

constexpr int kMaxDepth = 4;

struct LayerState {
  const Node* node = nullptr;
  LayerTiling tiling;
  std::vector<std::vector<std::int64_t>> digit_uses;  // [tile][digit], all iterations counted
  std::vector<bool> written;
  std::string quantized, acc, y;  // values of the layer on their way: from QUANT, MVM, SHADD
  std::set<std::string> vectors;  // from IM2COL
};

class Verifier {
 public:
  Verifier(const Program& program, const Graph& graph) : program_(program), graph_(graph) {
    for (const Node& node : graph.nodes) nodes_[node.name] = &node;
  }

  ProgramCounts run() {
    check(program_.input == graph_.input_name, "program.jsonl: line 1: input must be '", graph_.input_name, "'");
    defined_.insert(program_.input);
    walk(0, program_.code.size(), 1, true);
    finish();
    return counts_;
  }

 private:
  std::string where(std::size_t at) const { return message("program.jsonl: line ", at + 2); }

  /// Walks [begin, end), which runs `times` times. `counting` is false in the second look at a loop's body.
  void walk(std::size_t begin, std::size_t end, std::int64_t times, bool counting) {
    for (std::size_t at = begin; at < end; ++at) {
      at_ = at;
      times_ = times;
      counting_ = counting;
      const isa::Instruction& instruction = program_.code[at];
      if (const auto* loop = std::get_if<isa::Loop>(&instruction)) {
        at = walk_loop(at, end, *loop, times, counting);
      } else {
        std::visit([this](const auto& i) { visit(i); }, instruction);
      }
    }
  }

  std::size_t walk_loop(std::size_t at, std::size_t end, const isa::Loop& loop, std::int64_t times, bool counting) {
    const std::size_t close = matching_end(at, end);
    check(!loop.variable.empty() && !loops_.contains(loop.variable), where(at), ": the loop variable '", loop.variable,
          "' must be new");
    check(loops_.size() < kMaxDepth, where(at), ": loops are nested deeper than ", kMaxDepth);
    loops_[loop.variable] = loop.count;
    const std::int64_t inner = multiplied(times, loop.count);
    walk(at + 1, close, inner, counting);
    // Crossbars now hold what the first iteration left: the body must be right from there as well.
    if (loop.count > 1) walk(at + 1, close, inner, false);
    loops_.erase(loop.variable);
    return close;
  }

  std::size_t matching_end(std::size_t at, std::size_t end) const {
    int depth = 0;
    for (std::size_t i = at; i < end; ++i) {
      if (std::holds_alternative<isa::Loop>(program_.code[i])) ++depth;
      if (std::holds_alternative<isa::End>(program_.code[i]) && --depth == 0) return i;
    }
    throw Error(message(where(at), ": the loop has no END"));
  }

  std::int64_t multiplied(std::int64_t a, std::int64_t b) const {
    check(a <= INT64_MAX / b, where(at_), ": the loops run more than 2^63 times");
    return a * b;
  }

  void visit(const isa::Loop&) {}  // walk() handles loops itself
  void visit(const isa::End&) { throw Error(message(where(at_), ": END without LOOP")); }

  void visit(const isa::Configure& i) {
    if (!counting_) return;
    check(loops_.empty(), where(at_), ": CFG must stand outside of loops");
    check(i.layer == static_cast<std::int64_t>(layers_.size()), where(at_), ": layer must be ", layers_.size());
    const Node& node = node_of(i.node);
    check(node.crossbar && i.facts.layer_name == crossbar_of(node).layer_name, where(at_), ": '", i.node,
          "' is not the crossbar layer '", i.facts.layer_name, "'");
    const CrossbarLayer& a = i.facts;
    const CrossbarLayer& b = crossbar_of(node);
    LayerState state;
    state.node = &node;
    state.tiling = tile_layer(program_.hardware, b);
    check(a.weight_bits == b.weight_bits && a.act_bits == b.act_bits && a.act_signed == b.act_signed &&
              a.outputs == b.outputs && a.inputs_per_output == b.inputs_per_output && a.invocations == b.invocations &&
              a.repeats == b.repeats && i.slices == state.tiling.slices && i.digits == state.tiling.digits &&
              i.row_tiles == state.tiling.row_tiles && i.column_tiles == state.tiling.column_tiles,
          where(at_), ": CFG does not describe layer '", b.layer_name, "' on this hardware");
    const std::size_t tiles = state.tiling.tiles.size();
    total_tiles_ += tiles;
    check(total_tiles_ <= static_cast<std::size_t>(kMaxTiles), where(at_), ": more than ", kMaxTiles, " tiles");
    state.written.resize(tiles);
    state.digit_uses.assign(tiles, std::vector<std::int64_t>(static_cast<std::size_t>(state.tiling.digits)));
    layers_.push_back(std::move(state));
  }

  void visit(const isa::Quantize& i) {
    LayerState& layer = layer_of(i.layer);
    const CrossbarLayer& facts = crossbar_of(*layer.node);
    const std::int64_t magnitudes = std::int64_t{1} << (facts.act_bits - (facts.act_signed ? 1 : 0));
    check(i.lo == (facts.act_signed ? -magnitudes : 0) && i.hi == magnitudes - 1, where(at_),
          ": the range must be that of ", facts.act_bits, " bits");
    check(i.zero == facts.act_zero, where(at_), ": zero must be ", facts.act_zero, ", got ", i.zero);
    read(i.src, name_of_input(*layer.node, 0));
    is_tensor(layer, "x_scale", i.scale);
    define(i.dst, layer.quantized);
  }

  void visit(const isa::Write& i) {
    LayerState& layer = layer_of(i.layer);
    const Tile& tile = tile_of(layer, i.tile.number);
    check(i.tile.row_begin == tile.row_begin && i.tile.row_end == tile.row_end &&
              i.tile.column_begin == tile.column_begin && i.tile.column_end == tile.column_end,
          where(at_), ": tile ", tile.number, " must be rows ", tile.row_begin, "..", tile.row_end, ", columns ",
          tile.column_begin, "..", tile.column_end);
    const auto& crossbars = program_.hardware.resources.crossbars;
    check(!crossbars || i.tile.crossbar < *crossbars, where(at_), ": the hardware has ", crossbars.value_or(0),
          " crossbars, got number ", i.tile.crossbar);
    is_tensor(layer, "weight", i.weight);
    check_repeat(layer, i.repeat);
    holds_[i.tile.crossbar] = {i.layer, i.tile.number};
    layer.written[static_cast<std::size_t>(i.tile.number)] = true;
    if (counting_) counts_.writes += times_;
  }

  void visit(const isa::Gather& i) {
    LayerState& layer = layer_of(i.layer);
    check_vector(layer, i.at, i.repeat);
    read(i.src, layer.quantized);
    check_new(i.dst);
    layer.vectors.insert(i.dst);
    defined_.insert(i.dst);
  }

  void visit(const isa::Mvm& i) {
    LayerState& layer = layer_of(i.layer);
    tile_of(layer, i.tile);
    const auto held = holds_.find(i.crossbar);
    check(held != holds_.end() && held->second == std::pair(i.layer, i.tile), where(at_), ": crossbar ", i.crossbar,
          " does not hold tile ", i.tile, " of layer ", i.layer);
    check(i.digit_end <= layer.tiling.digits, where(at_), ": digits must lie in [0, ", layer.tiling.digits, ")");
    check_vector(layer, i.at, i.repeat);
    read(i.src, i.src);
    check(layer.vectors.contains(i.src), where(at_), ": '", i.src, "' is no input vector of layer ", i.layer);
    define(i.acc, layer.acc);
    if (!counting_) return;
    for (std::int64_t d = i.digit_begin; d < i.digit_end; ++d) {
      layer.digit_uses[static_cast<std::size_t>(i.tile)][static_cast<std::size_t>(d)] += times_;
    }
    counts_.mvms += multiplied(times_, i.digit_end - i.digit_begin);
  }

  void visit(const isa::ShiftAdd& i) {
    LayerState& layer = layer_of(i.layer);
    bool fits = static_cast<int>(i.shifts.size()) == layer.tiling.slices;
    for (std::size_t s = 0; fits && s < i.shifts.size(); ++s) {
      fits = i.shifts[s] == static_cast<std::int64_t>(s) * program_.hardware.cell_bits;
    }
    check(fits, where(at_), ": shifts must be one multiple of ", program_.hardware.cell_bits, " per slice");
    check_repeat(layer, i.repeat);
    read(i.acc, layer.acc);
    define(i.dst, layer.y);
  }

  void visit(const isa::Requantize& i) {
    const LayerState& layer = layer_of(i.layer);
    check(i.dst == layer.node->name, where(at_), ": dst must be '", layer.node->name, "'");
    const int zero = crossbar_of(*layer.node).act_zero;
    check(i.zero == zero, where(at_), ": zero must be ", zero, ", got ", i.zero);
    check(zero == 0 || i.weight == layer.node->tensors.at("weight"), where(at_), ": weight must be '",
          layer.node->tensors.at("weight"), "'");
    read(i.src, layer.y);
    is_tensor(layer, "multiplier", i.multiplier);
    is_tensor(layer, "bias", i.bias);
    produce(*layer.node);
  }

  void visit(const isa::Vector& i) {
    const Node& node = node_of(i.dst);
    check(!node.crossbar && i.fn == name_of(node.op), where(at_), ": '", i.dst, "' is computed by ", name_of(node.op));
    check(i.src.size() == node.inputs.size(), where(at_), ": ", i.fn, " of '", i.dst, "' has ", node.inputs.size(),
          " inputs");
    for (std::size_t k = 0; k < i.src.size(); ++k) {
      const std::string& name = name_of_input(node, k);
      check(i.src[k] == name, where(at_), ": input ", k, " of '", i.dst, "' must be '", name, "'");
      read(name, name);
    }
    produce(node);
  }

  const std::string& name_of_input(const Node& node, std::size_t k) const {
    const int input = node.inputs[k];
    return input < 0 ? graph_.input_name : graph_.nodes[static_cast<std::size_t>(input)].name;
  }

  /// `value` must be `wanted`, and computed.
  void read(const std::string& value, const std::string& wanted) const {
    check(defined_.contains(value), where(at_), ": '", value, "' is read before it is computed");
    check(value == wanted, where(at_), ": must read '", wanted, "', got '", value, "'");
  }

  void check_new(const std::string& value) const {
    check(!nodes_.contains(value) && value != program_.input, where(at_), ": '", value, "' is the name of a node");
  }

  /// `value` becomes the layer's `place`, of which it has one.
  void define(const std::string& value, std::string& place) {
    check_new(value);
    check(place.empty() || place == value, where(at_), ": the layer has '", place, "' already, got '", value, "'");
    place = value;
    defined_.insert(value);
  }

  void is_tensor(const LayerState& layer, const char* role, const std::string& key) const {
    const std::string& wanted = layer.node->tensors.at(role);
    check(key == wanted, where(at_), ": ", role, " must be '", wanted, "', got '", key, "'");
  }

  void produce(const Node& node) {
    check(loops_.empty(), where(at_), ": '", node.name, "' must be computed outside of loops");
    check(defined_.insert(node.name).second, where(at_), ": '", node.name, "' is computed twice");
  }

  /// `variable` must count 0 to count - 1 in a loop around the instruction; it may be left out where that is 0 alone.
  void check_variable(const char* what, const std::string& variable, std::int64_t count) {
    if (variable.empty() && count == 1) return;
    const auto loop = loops_.find(variable);
    check(loop != loops_.end(), where(at_), ": there is no loop variable '", variable, "'");
    if (loop->second == count || !wrong_count_.empty()) return;
    // Said last: that a digit is seen too often or too rarely says more.
    wrong_count_ =
        message(where(at_), ": ", what, " must count to ", count, ", '", variable, "' counts to ", loop->second);
  }
  void check_repeat(const LayerState& layer, const std::string& repeat) {
    check_variable("repeat", repeat, crossbar_of(*layer.node).repeats);
  }
  void check_vector(const LayerState& layer, const std::string& at, const std::string& repeat) {
    check_variable("at", at, crossbar_of(*layer.node).invocations);
    check_repeat(layer, repeat);
  }

  const Node& node_of(const std::string& name) const {
    const auto found = nodes_.find(name);
    check(found != nodes_.end(), where(at_), ": the network has no node '", name, "'");
    return *found->second;
  }

  LayerState& layer_of(std::int64_t number) {
    // Layers come in order, one at a time: only the last one configured may be used.
    check(!layers_.empty() && number == static_cast<std::int64_t>(layers_.size()) - 1, where(at_), ": layer ", number,
          " is not the one that the last CFG began");
    return layers_.back();
  }

  const Tile& tile_of(const LayerState& layer, std::int64_t number) const {
    check(number < static_cast<std::int64_t>(layer.tiling.tiles.size()), where(at_), ": the layer has ",
          layer.tiling.tiles.size(), " tiles, got number ", number);
    return layer.tiling.tiles[static_cast<std::size_t>(number)];
  }

  void finish() const {
    for (const Node& node : graph_.nodes) {
      check(defined_.contains(node.name), "program.jsonl: the node '", node.name, "' is never computed");
    }
    const std::string& output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
    check(program_.output == output, "program.jsonl: line 1: output must be '", output, "'");
    ProgramCounts closed_form;
    for (const LayerState& layer : layers_) {
      const CrossbarLayer& facts = crossbar_of(*layer.node);
      const std::int64_t wanted = facts.repeats * facts.invocations;
      for (std::size_t t = 0; t < layer.written.size(); ++t) {
        check(layer.written[t], "program.jsonl: tile ", t, " of layer '", facts.layer_name, "' is never written");
        for (const std::int64_t uses : layer.digit_uses[t]) {
          check(uses == wanted, "program.jsonl: tile ", t, " of layer '", facts.layer_name, "' sees a digit ", uses,
                " times instead of ", wanted);
        }
      }
      const Tier1Cost cost = tier1(program_.hardware, latency_shape(facts), facts.weight_bits, facts.act_bits);
      closed_form.writes += cost.writes;
      closed_form.mvms += cost.mvms;
    }
    check(wrong_count_.empty(), wrong_count_);
    check(counts_.writes == closed_form.writes && counts_.mvms == closed_form.mvms, "program.jsonl: ", counts_.writes,
          " writes and ", counts_.mvms, " MVMs, the closed form gives ", closed_form.writes, " and ", closed_form.mvms);
    check(counts_.writes == program_.writes && counts_.mvms == program_.mvms, "program.jsonl: line 1 states ",
          program_.writes, " writes and ", program_.mvms, " MVMs, the program has ", counts_.writes, " and ",
          counts_.mvms);
  }

  const Program& program_;
  const Graph& graph_;
  std::map<std::string, const Node*> nodes_;
  std::set<std::string> defined_;
  std::map<std::string, std::int64_t> loops_;  // open loops
  std::vector<LayerState> layers_;
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> holds_;  // crossbar -> (layer, tile)
  std::size_t total_tiles_ = 0;
  ProgramCounts counts_;
  std::string wrong_count_;  // of a loop variable; empty: none
  std::size_t at_ = 0;       // instruction looked at
  std::int64_t times_ = 1;
  bool counting_ = true;
};

}  // namespace

ProgramCounts verify_program(const Program& program, const Graph& graph) { return Verifier(program, graph).run(); }

}  // namespace cimq::compiler
