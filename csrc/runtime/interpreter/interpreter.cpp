#include "runtime/interpreter/interpreter.h"

#include <algorithm>
#include <utility>

#include "common/error.h"
#include "compiler/verify/program.h"
#include "runtime/interpreter/machine.h"
#include "runtime/manifest.h"
#include "runtime/network.h"

namespace cimq::runtime {
namespace {

/// Instructions before READY; none where there is no READY.
std::size_t setup_of(const compiler::Program& program) {
  const auto is_ready = [](const auto& i) { return std::holds_alternative<compiler::isa::Ready>(i); };
  const auto ready = std::ranges::find_if(program.code, is_ready);
  return ready == program.code.end() ? 0 : static_cast<std::size_t>(ready - program.code.begin()) + 1;
}

/// The raw results of a layer for one sample, behind those of the samples before.
void append(const std::vector<std::int32_t>& integers, const std::vector<float>& floats, LayerOutput& layer) {
  if (layer.exact) {
    layer.integers.insert(layer.integers.end(), integers.begin(), integers.end());
  } else if (!integers.empty()) {  // a given range gives floats also where they are whole numbers
    layer.floats.insert(layer.floats.end(), integers.begin(), integers.end());
  } else {
    layer.floats.insert(layer.floats.end(), floats.begin(), floats.end());
  }
}

}  // namespace

struct Interpreter::State {
  compiler::Graph graph;
  compiler::Program program;
  Budget budget;
  std::unique_ptr<const ProgramLayers> layers;
  Crossbars ready;  ///< what crossbars hold when the network is loaded

  State(compiler::Graph g, compiler::Program p, const LoadOptions& options)
      : graph(std::move(g)), program(std::move(p)), budget(options.max_working_bytes, options.max_operations) {}
};

Interpreter::Interpreter(compiler::Graph graph, compiler::Program program, const Safetensors& weights,
                         const LoadOptions& options) {
  auto state = std::make_shared<State>(std::move(graph), std::move(program), options);
  compiler::verify_program(state->program, state->graph);
  const StepContext context{state->graph, state->program.hardware, weights, state->budget};
  state->layers = std::make_unique<const ProgramLayers>(context, state->program);
  Machine machine(state->graph, state->program, *state->layers, {});
  machine.run(0, setup_of(state->program));
  state->ready = machine.crossbars();
  state_ = std::move(state);
}

Interpreter Interpreter::load(const std::filesystem::path& folder, const LoadOptions& options) {
  const BundleFolder bundle(folder);
  Network network = read_network(bundle, options);
  if (!network.program) throw Error("the bundle has no program.jsonl");
  return {std::move(network.graph), std::move(*network.program), Safetensors(bundle.read(kWeights), kWeights), options};
}

Interpreter Interpreter::load(const std::filesystem::path& folder, compiler::Program program,
                              const LoadOptions& options) {
  const BundleFolder bundle(folder);
  Network network = read_network(bundle, options);
  return {std::move(network.graph), std::move(program), Safetensors(bundle.read(kWeights), kWeights), options};
}

RunResult Interpreter::run_layers(const Tensor& x) const {
  const State& state = *state_;
  check_input(state.graph, x);
  const std::int64_t batch = x.shape[0];
  const compiler::Node& output = state.graph.nodes[static_cast<std::size_t>(state.graph.output)];
  RunResult result;
  result.output.shape = batched(batch, output.shape);
  // In the network's order, whatever the program's is.
  std::vector<std::int64_t> order;
  for (const compiler::Node& node : state.graph.nodes) {
    if (!node.crossbar) continue;
    const auto layer = std::ranges::find(state.layers->layers, &node, &ProgramLayer::node);
    order.push_back(layer - state.layers->layers.begin());
    const bool integers = layer->plan.gives_integers();
    result.layers.push_back({node.crossbar->layer_name, batched(batch, node.shape), integers, {}, {}});
  }
  Machine machine(state.graph, state.program, *state.layers, state.ready);
  const std::int64_t elements = compiler::elements(state.graph.input_shape);
  for (std::int64_t first = 0; first < batch; first += state.program.batch) {
    const std::int64_t count = std::min(state.program.batch, batch - first);
    state.budget.check_samples(static_cast<std::uint64_t>(count), state.layers->sample_bytes);
    machine.begin_samples(first, count, x.data.data() + first * elements);
    machine.run(setup_of(state.program), state.program.code.size());
    for (std::int64_t sample = 0; sample < count; ++sample) {
      const std::vector<float>& y = machine.result(sample, state.program.output);
      result.output.data.insert(result.output.data.end(), y.begin(), y.end());
      for (std::size_t i = 0; i < order.size(); ++i) {
        append(machine.integers(sample, order[i]), machine.floats(sample, order[i]), result.layers[i]);
      }
    }
  }
  return result;
}

}  // namespace cimq::runtime
