#include "compiler/sim/steps.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "common/error.h"
#include "compiler/cost/tier1.h"
#include "compiler/cost/vector_work.h"
#include "compiler/ir/rows.h"
#include "compiler/ir/tiling.h"

namespace cimq::compiler::sim {
namespace {

constexpr std::int64_t kSumBytes = 4;

}  // namespace

LayerFacts facts_of(const Hardware& network, const CrossbarLayer& layer) {
  const Hardware hw = hardware_of(network, layer);
  const LayerTiling tiling = tile_layer(network, layer);
  LayerFacts facts;
  facts.name = layer.layer_name;
  facts.vectors = layer.invocations;
  facts.groups = layer.repeats;
  facts.vector_bytes = arrays_for(layer.inputs_per_output * layer.act_bits, 8);
  facts.lines = converted_lines(hw, 0, tiling.columns);
  facts.sum_bytes = kSumBytes * facts.lines;
  facts.result_bytes = layer.outputs;
  facts.load_ps = bus_time_ps(hw, facts.vector_bytes);
  for (std::int64_t c = 0; c < tiling.column_tiles; ++c) {
    const isa::Region cells = tiling.region(c);
    const std::int64_t lines = converted_lines(hw, cells.column_begin, cells.column_end);
    facts.columns.push_back({lines, digit_time(hw, lines)});
  }
  for (std::int64_t r = 0; r < tiling.row_tiles; ++r) {
    const isa::Region cells = tiling.region(r * tiling.column_tiles);
    facts.rows.push_back(cells.row_end - cells.row_begin);
  }
  return facts;
}

namespace {

class Resolver {
 public:
  Resolver(const Program& program, const Graph& graph)
      : program_(program), graph_(graph), ends_(loop_ends(program)), steps_{program, {}, {}, 0, -1, {}} {
    for (std::size_t i = 0; i < graph.nodes.size(); ++i) nodes_.emplace(graph.nodes[i].name, i);
  }

  Steps run() {
    steps_.code.resize(program_.code.size());
    for (at_ = 0; at_ < program_.code.size(); ++at_) {
      std::visit([this](const auto& i) { resolve(i, steps_.code[at_]); }, program_.code[at_]);
    }
    steps_.output = value(program_.output);
    steps_.values = values_.size();
    for (const auto& [value, last] : last_use_) steps_.last_uses.emplace_back(last, value);
    std::ranges::sort(steps_.last_uses);
    return std::move(steps_);
  }

 private:
  std::int32_t value(const std::string& name) {
    return values_.emplace(name, static_cast<std::int32_t>(values_.size())).first->second;
  }

  /// A register that the instruction uses, until the outermost loop around it ends that is not over samples.
  std::int32_t used(const std::string& name) {
    const std::int32_t number = value(name);
    const std::size_t outermost = !loops_.empty() && steps_.code[loops_.front().second].samples ? 1 : 0;
    last_use_[number] = loops_.size() <= outermost ? at_ : ends_[loops_[outermost].second];
    return number;
  }

  Index index(const isa::Index& given) const {
    Index found;
    found.base = given.base;
    for (const isa::Term& term : given.terms) {
      const auto loop = std::ranges::find(loops_, term.variable, [](const auto& l) { return *l.first; });
      check(loop != loops_.end() && found.terms < Index::kMaxTerms, line_of(at_), ": there is no loop over '",
            term.variable, "' around it, or too many terms");
      found.term[found.terms++] = {static_cast<std::size_t>(loop - loops_.begin()), term.stride};
    }
    return found;
  }

  const Node& node(const std::string& name) const {
    const auto found = nodes_.find(name);
    check(found != nodes_.end(), line_of(at_), ": the network has no node '", name, "'");
    return graph_.nodes[found->second];
  }

  std::int32_t layer(std::int64_t number) const {
    check(number >= 0 && number < static_cast<std::int64_t>(steps_.layers.size()), line_of(at_), ": layer ", number,
          " has no CFG");
    return static_cast<std::int32_t>(number);
  }
  const Node& node_of(std::int64_t layer) const { return *layer_nodes_[static_cast<std::size_t>(layer)]; }

  std::int64_t time(std::int64_t operations) const { return vector_time_ps(program_.hardware, operations); }
  /// Of some rows of a value, or of all.
  std::int64_t time(std::int64_t operations, const std::optional<isa::Rows>& rows, const Shape& shape) const {
    return time(rows ? arrays_for(operations * rows->count, rows_of(shape)) : operations);
  }

  void resolve(const isa::Configure& i, Step&) {
    const Node& found = node(i.node);
    layer_nodes_.push_back(&found);
    steps_.layers.push_back(facts_of(program_.hardware, crossbar_of(found)));
  }
  void resolve(const isa::Ready&, Step&) {}
  void resolve(const isa::Loop& i, Step& step) {
    step.kind = StepKind::kLoop;
    step.count = i.count;
    step.samples = i.samples;
    step.end = ends_[at_];
    loops_.emplace_back(&i.variable, at_);
  }
  void resolve(const isa::End&, Step&) { loops_.pop_back(); }

  void resolve(const isa::Quantize& i, Step& step) {
    step.kind = StepKind::kQuantize;
    step.layer = layer(i.layer);
    step.src = {value(i.src)};
    step.dst = value(i.dst);
    const Shape& shape = graph_.shape_of(node_of(i.layer).inputs[i.operand ? 1 : 0]);
    step.vector_ps = time(elements(shape), i.rows, shape);
    if (i.rows) step.first_row = index(i.rows->first);
  }
  void resolve(const isa::Write& i, Step& step) {
    step.kind = StepKind::kWrite;
    step.layer = layer(i.layer);
    if (writes_operand(node_of(i.layer).op)) step.src = {value(i.weight)};
    step.tile = index(i.tile);
    step.crossbar = index(i.crossbar);
  }
  void resolve(const isa::Gather& i, Step& step) {
    step.kind = StepKind::kGather;
    step.layer = layer(i.layer);
    step.src = {value(i.src)};
    step.dst = used(i.dst);
    step.lane = index(i.lane);
  }
  void resolve(const isa::Mvm& i, Step& step) {
    step.kind = StepKind::kMvm;
    step.layer = layer(i.layer);
    step.src = {used(i.src)};
    step.lane = index(i.lane);
    step.tile = index(i.tile);
    step.crossbar = index(i.crossbar);
    step.at = index(i.at);
    step.repeat = index(i.repeat);
    step.digits = i.digit_end - i.digit_begin;
  }
  void resolve(const isa::ShiftAdd& i, Step& step) {
    step.kind = StepKind::kShiftAdd;
    step.layer = layer(i.layer);
    step.dst = value(i.dst);
    step.all_at = !i.at;
    step.all_repeat = !i.repeat;
    if (i.at) step.at = index(*i.at);
    if (i.repeat) step.repeat = index(*i.repeat);
  }
  void resolve(const isa::Requantize& i, Step& step) {
    step.kind = StepKind::kRequantize;
    step.layer = layer(i.layer);
    step.src = {value(i.src)};
    step.dst = value(i.dst);
    const LayerFacts& facts = steps_.layers[static_cast<std::size_t>(step.layer)];
    step.vector_ps = time(facts.vectors * facts.groups * facts.result_bytes, i.rows, node_of(i.layer).shape);
  }
  void resolve(const isa::Vector& i, Step& step) {
    step.kind = StepKind::kVector;
    for (const std::string& name : i.src) step.src.push_back(value(name));
    step.dst = value(i.dst);
    const Node& made = node(i.dst);
    step.vector_ps = time(vector_operations(graph_, made), i.rows, made.shape);
  }

  const Program& program_;
  const Graph& graph_;
  std::vector<std::size_t> ends_;
  Steps steps_;
  std::size_t at_ = 0;
  std::vector<std::pair<const std::string*, std::size_t>> loops_;  // variable, LOOP
  std::unordered_map<std::string, std::int32_t> values_;
  std::unordered_map<std::string, std::size_t> nodes_;
  std::vector<const Node*> layer_nodes_;
  std::unordered_map<std::int32_t, std::size_t> last_use_;
};

}  // namespace

Steps resolve(const Program& program, const Graph& graph) { return Resolver(program, graph).run(); }

}  // namespace cimq::compiler::sim
