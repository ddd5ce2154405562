#include "compiler/feedback/pipeline_cost.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/error.h"
#include "common/printable.h"
#include "common/rounding.h"
#include "common/saturating.h"
#include "compiler/ir/limits.h"
#include "compiler/passes/loads.h"
#include "compiler/passes/pipeline.h"
#include "compiler/sim/simulate.h"

namespace cimq::compiler {
namespace {

constexpr int kMostBits = 8;
constexpr const char* kPipelined = "pipelined";

bool is_pipelined(std::string_view pipeline) {
  check(pipeline == "stationary" || pipeline == kPipelined, "costs of programs are those of the pipelines stationary ",
        "and pipelined, got '", printable(pipeline, 80), "'");
  return pipeline == kPipelined;
}

std::size_t number_of(const LayerWidths& bits) {
  return static_cast<std::size_t>(bits.first - 1) * kMostBits + static_cast<std::size_t>(bits.second - 1);
}

std::int64_t counted(std::uint64_t time_ps) {
  check(time_ps <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
        "the time of the program in ps exceeds 63 bits");
  return static_cast<std::int64_t>(time_ps);
}

/// How often every input vector of a group is shown to crossbars, added up over the groups.
std::int64_t showings(const PlacedLayer& layer, std::int64_t pool) {
  const LayerLoad& load = layer.timing->load;
  if (layer.stays()) return load.groups;
  if (load.groups == 1) return ceil_div(load.tiles - layer.resident / layer.copies, pool);
  const std::int64_t staying = layer.resident / (load.tiles * layer.copies);
  const std::int64_t each = load.tiles * layer.copies <= pool ? 1 : ceil_div(load.tiles, pool);
  return staying + (load.groups - staying) * each;
}

}  // namespace

PipelineCost::PipelineCost(Graph graph, const Hardware& hardware, std::string_view pipeline, CopyRule rule)
    : graph_(std::move(graph)),
      hardware_(hardware),
      pipelined_(is_pipelined(pipeline)),
      rule_(rule),
      fast_(has_timeline(hardware)),
      timeline_(graph_, hardware),
      memory_(pool_machine(hardware)) {
  hardware_.validate();
  check(pipelined_ || rule != CopyRule::kAny, "duplication 'any' compares programs: it needs the pipeline 'pipelined'");
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (!graph_.nodes[i].crossbar) continue;
    nodes_.push_back(i);
    rows_.push_back(layer_rows(graph_, graph_.nodes[i]));
  }
  check(!nodes_.empty(), "the network has no crossbar layer");
  timings_.resize(nodes_.size());
}

std::vector<std::string> PipelineCost::layer_names() const {
  std::vector<std::string> names;
  names.reserve(nodes_.size());
  for (const std::size_t node : nodes_) names.push_back(crossbar_of(graph_.nodes[node]).layer_name);
  return names;
}

void PipelineCost::check_bits(std::span<const LayerWidths> bits) const {
  check(bits.size() == nodes_.size(), "a policy of this network has bits for ", nodes_.size(), " layers, got ",
        bits.size());
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const auto [weight, act] = bits[i];
    check(weight >= 1 && weight <= kMostBits && act >= 1 && act <= kMostBits, "layer '",
          printable(crossbar_of(graph_.nodes[nodes_[i]]).layer_name, 80), "': bits must be from 1 to 8, got (", weight,
          ", ", act, ")");
  }
}

const LayerTiming& PipelineCost::timing(std::size_t layer, const LayerWidths& bits) {
  std::optional<LayerTiming>& kept = timings_[layer][number_of(bits)];
  if (!kept) {
    CrossbarLayer facts = crossbar_of(graph_.nodes[nodes_[layer]]);
    facts.weight_bits = bits.first;
    facts.act_bits = bits.second;
    kept = timing_of(hardware_, facts, writes_operand(graph_.nodes[nodes_[layer]].op));
  }
  return *kept;
}

std::array<std::array<int, 8>, 8> PipelineCost::kinds(std::size_t layer, bool with_energy) const {
  check(layer < nodes_.size(), "the network has ", nodes_.size(), " layers, got the number ", layer);
  // Buses and vector units move and add what energy counts.
  const bool whole = with_energy || !fast_;
  std::array<std::array<int, 8>, 8> kinds{};
  std::vector<LayerTiming> known;
  CrossbarLayer facts = crossbar_of(graph_.nodes[nodes_[layer]]);
  for (facts.weight_bits = 1; facts.weight_bits <= kMostBits; ++facts.weight_bits) {
    for (facts.act_bits = 1; facts.act_bits <= kMostBits; ++facts.act_bits) {
      const LayerTiming timing = timing_of(hardware_, facts, writes_operand(graph_.nodes[nodes_[layer]].op));
      const auto alike = [&](const LayerTiming& other) {
        return whole ? timing == other : timing.load == other.load && timing.columns == other.columns;
      };
      const auto found = std::ranges::find_if(known, alike);
      kinds.at(static_cast<std::size_t>(facts.weight_bits - 1)).at(static_cast<std::size_t>(facts.act_bits - 1)) =
          static_cast<int>(found - known.begin());
      if (found == known.end()) known.push_back(timing);
    }
  }
  return kinds;
}

ProgramCost PipelineCost::cost(std::span<const LayerWidths> bits) {
  if (!fast_) return simulated(bits);
  check_bits(bits);
  memory_.tidy();
  now_.clear();
  loads_.clear();
  std::int64_t tiles = 0;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    now_.push_back(&timing(i, bits[i]));
    loads_.push_back(now_.back()->load);
    tiles += loads_.back().tiles;
  }
  check(tiles <= kMaxTiles, "the network needs more than ", kMaxTiles, " tiles");
  return pipelined_ ? pipelined() : stationary();
}

std::vector<PlacedLayer> PipelineCost::placed(const StationaryPlan& plan) const {
  std::vector<PlacedLayer> layers;
  layers.reserve(now_.size());
  for (std::size_t i = 0; i < now_.size(); ++i) layers.push_back({now_[i], plan.resident[i], plan.copies[i]});
  return layers;
}

ProgramCost PipelineCost::stationary() {
  const StationaryPlan plan = plan_copies(memory_, loads_, hardware_.resources.crossbars, rule_);
  const std::vector<PlacedLayer> layers = placed(plan);
  return {counted(timeline_.in_series(layers, plan.pool)), events(layers, plan.pool), ""};
}

/// As the pass "fastest": the first of those that take the least time.
ProgramCost PipelineCost::pipelined() {
  const std::optional<std::int64_t>& crossbars = hardware_.resources.crossbars;
  const StationaryPlan without = plan_stationary(memory_, loads_, crossbars);
  std::uint64_t least = kUncountable;
  StationaryPlan best, plan;
  Way chosen;
  for (const Way& way : ways_of(rule_)) {
    if (way.layers == Way::Layers::kStaying) {
      const auto copies = copies_in_rows(memory_, loads_, rows_, crossbars, way.rule);
      if (!copies) continue;
      std::vector<LayerLoad> copied = loads_;
      for (std::size_t i = 0; i < copied.size(); ++i) copied[i].copies = (*copies)[i];
      plan = plan_stationary(memory_, copied, crossbars);
      plan.copies = *copies;
    } else if (way.layers == Way::Layers::kInSeries) {
      plan = plan_copies(memory_, loads_, crossbars, way.rule, without);
    }
    const std::vector<PlacedLayer> layers = placed(plan);
    const std::uint64_t time = way.layers == Way::Layers::kInSeries ? timeline_.in_series(layers, plan.pool)
                                                                    : timeline_.in_rows(layers, plan.pool, least);
    if (time >= least) continue;
    least = time;
    best = plan;
    chosen = way;
  }
  return {counted(least), events(placed(best), best.pool), text_of(chosen)};
}

EnergyEvents PipelineCost::events(std::span<const PlacedLayer> layers, std::int64_t pool) const {
  EnergyEvents sum{};
  const auto add = [&sum](EnergyPart part, std::int64_t more) {
    std::int64_t& count = sum[static_cast<std::size_t>(part)];
    count = checked_sum(count, more, "events of one kind of the network");
  };
  for (const PlacedLayer& layer : layers) {
    const LayerTiming& timing = *layer.timing;
    for (std::size_t part = 0; part < kEnergyParts; ++part) add(static_cast<EnergyPart>(part), timing.once[part]);
    add(EnergyPart::kWrite, timing.load.all() * layer.copies - layer.resident);
    const std::uint64_t moved =
        saturating_sum(saturating_product(1, showings(layer, pool), timing.load.vectors, timing.vector_bytes),
                       static_cast<std::uint64_t>(timing.result_bytes));
    add(EnergyPart::kBuffer, counted(moved));
    add(EnergyPart::kBus, counted(moved));
  }
  return sum;
}

ProgramCost PipelineCost::simulated(std::span<const LayerWidths> bits) const {
  check_bits(bits);
  Graph graph = graph_;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    CrossbarLayer layer = crossbar_of(graph.nodes[nodes_[i]]);
    layer.weight_bits = bits[i].first;
    layer.act_bits = bits[i].second;
    graph.nodes[nodes_[i]].crossbar = std::move(layer);
  }
  Context context;
  context.duplication = rule_;
  const Module module =
      compile_graph(graph, hardware_, pipeline_named(pipelined_ ? kPipelined : "stationary"), context);
  const SimulatedTime time = simulate(program_of(module), module.graph);
  ProgramCost cost{time.time_ps, {}, context.chosen};
  for (const SimulatedLayer& layer : time.layers) {
    for (std::size_t part = 0; part < kEnergyParts; ++part) cost.events[part] += layer.events[part];
  }
  return cost;
}

}  // namespace cimq::compiler
