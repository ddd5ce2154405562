#include "runtime/executor.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <utility>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/frontends/strict_json.h"
#include "runtime/budget.h"
#include "runtime/image_order.h"
#include "runtime/layer_sinks.h"
#include "runtime/live_values.h"
#include "runtime/manifest.h"
#include "runtime/memory_plan.h"
#include "runtime/network.h"
#include "runtime/parallel.h"
#include "runtime/steps/channels_last.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

/// Samples are run in chunks whose values stay in the second-level cache: steps are passes over them.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 18;

/// How a batch is shared among threads within the bound of memory.
struct Split {
  std::int64_t chunk = 1;  ///< samples run at once
  std::int64_t tasks = 1;
  int lanes = 1;  ///< chunks that run side by side
  int inner = 1;  ///< threads within each: few samples leave threads over, which split the rows of a layer
};

}  // namespace

bool CheckReport::passed() const {
  return !entries.empty() && std::all_of(entries.begin(), entries.end(),
                                         [](const CheckEntry& e) { return e.compared > 0 && e.different == 0; });
}

struct Executor::State {
  Network network;
  LoadOptions options;
  Budget budget{0, 0};
  int threads = 1;
  OrderedNetwork ordered;                    ///< what runs: the network's results, images in the order of the steps
  std::vector<std::unique_ptr<Step>> steps;  ///< [node of `ordered`]
  std::vector<std::size_t> layers;           ///< nodes of `ordered` that crossbars compute
  MemoryPlan memory;                         ///< of `ordered`
  std::optional<Safetensors> expected;

  /// The stored sample and its results. Throws Error where the bundle has none.
  const Safetensors& stored() const {
    if (!expected) throw Error(message("check: the bundle has no ", kExpected));
    return *expected;
  }

  std::int64_t in_elements() const { return compiler::elements(network.graph.input_shape); }
  const compiler::Node& output_node() const {
    return network.graph.nodes[static_cast<std::size_t>(network.graph.output)];
  }

  /// The network's own node that a node of `ordered` is.
  const compiler::Node& origin_of(std::size_t node) const {
    return network.graph.nodes[static_cast<std::size_t>(ordered.origin[node])];
  }

  void build(const BundleFiles& bundle);
  std::uint64_t bytes_at(std::size_t node, std::int64_t batch, int inner) const;
  std::uint64_t bytes_of(std::int64_t batch, int inner) const;
  Split split(std::int64_t batch) const;
  void run_chunk(const float* x, const Chunk& chunk, float* out, LayerSink* sink, int inner) const;
  void run(const Tensor& x, RunResult& result, bool keep_layers) const;
  void check_sample() const;
  std::vector<Comparison> comparisons(std::int64_t batch) const;
};

/// Checks every bound before the memory that it is about is taken.
void Executor::State::build(const BundleFiles& bundle) {
  ordered = order_images(network.graph, network.hardware);
  memory = plan_memory(ordered.graph);
  budget = Budget(options.max_working_bytes, options.max_operations);
  for (const compiler::Node& node : network.graph.nodes) budget.operate(node, operations_of(network.graph, node));
  for (std::size_t i = 0; i < ordered.graph.nodes.size(); ++i) {
    budget.check_working(ordered.graph.nodes[i],
                         saturating_product(static_cast<std::uint64_t>(memory.live_elements[i]), sizeof(float)));
  }
  for (const char* name : {kWeights, kExpected}) {
    const std::uint64_t size = bundle.size_of(name);
    cimq::check(size <= options.max_working_bytes, name, ": has ", size, " bytes, more than ",
                options.max_working_bytes, "; raise max_working_bytes (--max-working-bytes) to allow it");
  }
  const Safetensors weights(bundle.read(kWeights), kWeights);
  const StepContext context{network.graph, network.hardware, weights, budget};
  const StepContext in_order{ordered.graph, network.hardware, weights, budget};
  for (std::size_t i = 0; i < ordered.graph.nodes.size(); ++i) {
    steps.push_back(ordered.special[i] ? make_channels_last_step(context, origin_of(i))
                                       : make_step(in_order, ordered.graph.nodes[i]));
    if (ordered.graph.nodes[i].crossbar) layers.push_back(i);
  }
  for (std::size_t i = 0; i < steps.size(); ++i) budget.check_working(ordered.graph.nodes[i], bytes_at(i, 1, 1));
}

/// Memory of a run of `batch` samples while `node` runs.
std::uint64_t Executor::State::bytes_at(std::size_t node, std::int64_t batch, int inner) const {
  const std::uint64_t values =
      saturating_product(static_cast<std::uint64_t>(memory.live_elements[node]), batch, sizeof(float));
  return saturating_sum(values, steps[node]->working_bytes(batch, inner));
}

std::uint64_t Executor::State::bytes_of(std::int64_t batch, int inner) const {
  std::uint64_t most = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) most = std::max(most, bytes_at(i, batch, inner));
  return most;
}

Split Executor::State::split(std::int64_t batch) const {
  const std::uint64_t most = options.max_working_bytes;
  Split result;
  const std::int64_t fitting =
      std::max<std::int64_t>(1, kChunkElements / std::max<std::int64_t>(1, memory.peak_elements()));
  result.chunk = std::min(fitting, (batch + threads - 1) / threads);
  std::uint64_t bytes = bytes_of(result.chunk, 1);
  for (; result.chunk > 1 && bytes > most; bytes = bytes_of(result.chunk, 1)) result.chunk /= 2;
  result.tasks = (batch + result.chunk - 1) / result.chunk;
  const auto side_by_side =
      static_cast<std::int64_t>(std::min<std::uint64_t>(most / std::max<std::uint64_t>(1, bytes), INT32_MAX));
  result.lanes = static_cast<int>(std::clamp<std::int64_t>(std::min<std::int64_t>(threads, result.tasks), 1,
                                                           std::max<std::int64_t>(1, side_by_side)));
  result.inner = std::max(1, threads / result.lanes);
  const auto lanes = static_cast<std::uint64_t>(result.lanes);
  while (result.inner > 1 && saturating_product(lanes, bytes_of(result.chunk, result.inner)) > most) result.inner /= 2;
  return result;
}

void Executor::State::run_chunk(const float* x, const Chunk& chunk, float* out, LayerSink* sink, int inner) const {
  LiveValues values(steps.size());
  std::size_t layer = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const compiler::Node& node = ordered.graph.nodes[i];
    std::vector<const float*> inputs;
    inputs.reserve(node.inputs.size());
    for (const int input : node.inputs) inputs.push_back(input < 0 ? x : values.at(static_cast<std::size_t>(input)));
    float* result = values.make(i, static_cast<std::size_t>(chunk.size * compiler::elements(node.shape)));
    RawResult raw;
    const bool taken = node.crossbar && sink != nullptr;
    if (taken) raw = sink->destination(layer);
    steps[i]->run(chunk.size, inputs, result, taken ? &raw : nullptr, {inner, chunk.begin});
    if (taken) sink->finished(layer++);
    for (const int value : memory.freed_after[i]) values.free(static_cast<std::size_t>(value));
  }
  std::copy_n(values.at(static_cast<std::size_t>(ordered.graph.output)),
              chunk.size * compiler::elements(output_node().shape), out);
}

void Executor::State::run(const Tensor& x, RunResult& result, bool keep_layers) const {
  const std::int64_t batch = x.shape.empty() ? 0 : x.shape[0];
  check_input(network.graph, x);
  const std::int64_t out_elements = compiler::elements(output_node().shape);
  result.output.shape = batched(batch, output_node().shape);
  result.output.data.resize(static_cast<std::size_t>(batch * out_elements));
  if (keep_layers) {
    for (const std::size_t i : layers) {
      const compiler::Node& node = origin_of(i);
      LayerOutput layer{compiler::crossbar_of(node).layer_name, batched(batch, node.shape), steps[i]->exact(), {}, {}};
      const auto size = static_cast<std::size_t>(batch * compiler::elements(node.shape));
      layer.exact ? layer.integers.resize(size) : layer.floats.resize(size);
      result.layers.push_back(std::move(layer));
    }
  }
  if (batch == 0) return;

  const Split split = this->split(batch);
  parallel_for(split.tasks, split.lanes, [&](std::int64_t task) {
    const std::int64_t begin = task * split.chunk;
    const Chunk chunk{begin, std::min(split.chunk, batch - begin)};
    KeptLayers kept(result.layers, chunk);
    run_chunk(x.data.data() + begin * in_elements(), chunk, result.output.data.data() + begin * out_elements,
              keep_layers ? &kept : nullptr, split.inner);
  });
}

/// The stored sample is one that the network can be run with: at least one, of the right shape.
void Executor::State::check_sample() const {
  const TensorView& input = stored().at("input");
  const std::int64_t batch = input.shape.empty() ? 0 : input.shape[0];
  cimq::check(input.dtype == "F32" && input.shape == batched(batch, network.graph.input_shape), kExpected,
              ": 'input' must be F32 [batch, ...] = ", shape_text(batched(batch, network.graph.input_shape)), ", got ",
              input.dtype, " ", shape_text(input.shape));
  cimq::check(batch >= 1, kExpected, ": 'input' holds no sample, which would prove nothing; got shape ",
              shape_text(input.shape));
  budget.check_runs(static_cast<std::uint64_t>(batch), message(kExpected, ": checking its sample"));
}

/// What is compared: the layers in order of execution, then the output. Throws Error where a stored result is missing
/// or has another shape or type than the network gives.
std::vector<Comparison> Executor::State::comparisons(std::int64_t batch) const {
  std::vector<Comparison> results;
  const auto add = [&](const std::string& name, const std::string& key, const compiler::Shape& shape, bool exact) {
    const TensorView& view = stored().at(key);
    const compiler::Shape wanted = batched(batch, shape);
    cimq::check(view.shape == wanted && view.dtype == (exact ? "I32" : "F32"), kExpected, ": '", compiler::shown(key),
                "' must be ", exact ? "I32 " : "F32 ", shape_text(wanted), ", got ", view.dtype, " ",
                shape_text(view.shape));
    Comparison result;
    result.name = name;
    result.exact = exact;
    result.elements = compiler::elements(shape);
    result.expected = view.bytes.data();
    results.push_back(std::move(result));
  };
  for (const std::size_t i : layers) {
    const compiler::Node& node = origin_of(i);
    const std::string& name = compiler::crossbar_of(node).layer_name;
    add(name, "layer." + name, node.shape, steps[i]->exact());
  }
  add("output", "output", output_node().shape, false);
  return results;
}

Executor::Executor(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Executor Executor::load(const std::filesystem::path& folder, const LoadOptions& options) {
  return load(BundleFolder(folder), options);
}

Executor Executor::load(const BundleFiles& bundle, const LoadOptions& options) {
  cimq::check(options.threads >= 0, "threads must be 0 (all) or positive, got ", options.threads);
  auto state = std::make_shared<State>();
  state->options = options;
  state->threads = options.threads > 0 ? options.threads : usable_threads();
  state->network = read_network(bundle, options);
  state->network.program.reset();  // verified; the steps do not look at it
  state->build(bundle);
  if (bundle.contains(kExpected)) state->expected.emplace(bundle.read(kExpected), kExpected);
  return Executor(std::move(state));
}

Tensor Executor::run(const Tensor& x) const {
  RunResult result;
  state_->run(x, result, false);
  return std::move(result.output);
}

RunResult Executor::run_layers(const Tensor& x) const {
  RunResult result;
  state_->run(x, result, true);
  return result;
}

CheckReport Executor::check() const {
  const State& state = *state_;
  const Safetensors& stored = state.stored();
  cimq::check(!state.options.seed && !state.options.chip,
              "check: the bundle was loaded with another seed or chip than its expected results belong to");
  state.check_sample();
  const TensorView& input = stored.at("input");
  const std::int64_t batch = input.shape[0];
  std::vector<Comparison> results = state.comparisons(batch);
  std::mutex guard;
  const Split split = state.split(batch);
  parallel_for(split.tasks, split.lanes, [&](std::int64_t task) {
    const std::int64_t begin = task * split.chunk;
    const Chunk chunk{begin, std::min(split.chunk, batch - begin)};
    std::vector<float> x(static_cast<std::size_t>(chunk.size * state.in_elements()));
    std::memcpy(x.data(), input.bytes.data() + static_cast<std::size_t>(begin * state.in_elements()) * sizeof(float),
                x.size() * sizeof(float));
    for (const float value : x) cimq::check(std::isfinite(value), kExpected, ": 'input' must be finite, got ", value);
    std::vector<float> out(static_cast<std::size_t>(chunk.size * results.back().elements));
    ComparedLayers sink(results, guard, chunk);
    state.run_chunk(x.data(), chunk, out.data(), &sink, split.inner);
    const std::lock_guard lock(guard);
    results.back().compare(out.data(), chunk);
  });
  CheckReport report;
  for (Comparison& result : results) {
    report.entries.push_back({std::move(result.name), result.compared, result.different, std::move(result.text)});
  }
  return report;
}

const compiler::Graph& Executor::graph() const { return state_->network.graph; }
const Hardware& Executor::hardware() const { return state_->network.hardware; }
int Executor::threads() const { return state_->threads; }

const std::string& Executor::text_of(const std::string& file) const {
  const auto found = state_->network.texts.find(file);
  cimq::check(found != state_->network.texts.end(), "the executor keeps no text of '", compiler::shown(file), "'");
  return found->second;
}

}  // namespace cimq::runtime
