#include "compiler/sim/simulate.h"

#include "compiler/sim/steps.h"
#include "compiler/sim/trace.h"
#include "compiler/sim/walk.h"

namespace cimq::compiler {

SimulatedTime simulate(const Program& program, const Graph& graph) {
  const sim::Steps steps = sim::resolve(program, graph);
  return sim::Walk(steps, nullptr).run();
}

SimulatedTime simulate(const Program& program, const Graph& graph, std::string& trace) {
  const sim::Steps steps = sim::resolve(program, graph);
  sim::Trace events;
  SimulatedTime time = sim::Walk(steps, &events).run();
  std::vector<std::string> names;
  names.reserve(steps.layers.size());
  for (const sim::LayerFacts& layer : steps.layers) names.push_back(layer.name);
  trace = events.json(names);
  return time;
}

}  // namespace cimq::compiler
