#include "runtime/executor.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

#include "common/error.h"
#include "compiler/frontends/layers_json.h"
#include "runtime/manifest.h"
#include "runtime/memory_plan.h"
#include "runtime/parallel.h"
#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

constexpr const char* kExpected = "expected.safetensors";
/// Samples are run in chunks whose values fit a cache-friendly amount of memory.
constexpr std::int64_t kChunkElements = std::int64_t{1} << 22;

template <typename T>
CheckEntry compare(const std::string& name, const std::vector<T>& expected, const std::vector<T>& actual) {
  CheckEntry entry{name, static_cast<std::int64_t>(expected.size()), 0, ""};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == actual[i]) continue;
    if (entry.different++ == 0) {
      entry.first_difference = message("element ", i, ": expected ", expected[i], ", got ", actual[i]);
    }
  }
  return entry;
}

}  // namespace

bool CheckReport::passed() const {
  return std::all_of(entries.begin(), entries.end(), [](const CheckEntry& e) { return e.different == 0; });
}

struct Executor::State {
  compiler::Graph graph;
  Hardware hardware;
  LoadOptions options;
  int threads = 1;
  std::vector<std::unique_ptr<Step>> steps;
  MemoryPlan memory;
  std::map<std::string, std::string> texts;
  std::optional<Safetensors> expected;

  void run_chunk(const float* x, std::int64_t batch, float* out, const std::vector<RawResult>& raw,
                 const StepRun& step_run) const;
  void run(const Tensor& x, RunResult& result, bool keep_layers) const;
};

void Executor::State::run_chunk(const float* x, std::int64_t batch, float* out, const std::vector<RawResult>& raw,
                                const StepRun& step_run) const {
  std::vector<std::vector<float>> values(steps.size());
  std::size_t crossbars = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const compiler::Node& node = graph.nodes[i];
    std::vector<const float*> inputs;
    inputs.reserve(node.inputs.size());
    for (const int input : node.inputs)
      inputs.push_back(input < 0 ? x : values[static_cast<std::size_t>(input)].data());
    values[i].resize(static_cast<std::size_t>(batch * compiler::elements(node.shape)));
    const RawResult* keep = node.crossbar && !raw.empty() ? &raw[crossbars++] : nullptr;
    steps[i]->run(batch, inputs, values[i].data(), keep, step_run);
    for (const int value : memory.freed_after[i]) values[static_cast<std::size_t>(value)] = {};
  }
  const std::vector<float>& last = values[static_cast<std::size_t>(graph.output)];
  std::copy(last.begin(), last.end(), out);
}

void Executor::State::run(const Tensor& x, RunResult& result, bool keep_layers) const {
  compiler::Shape wanted = graph.input_shape;
  wanted.insert(wanted.begin(), x.shape.empty() ? 0 : x.shape[0]);
  cimq::check(x.shape == wanted, "input: shape must be [batch, ...] = ", shape_text(wanted), ", got ",
              shape_text(x.shape));
  const std::int64_t batch = wanted[0];
  const std::int64_t in_elements = compiler::elements(graph.input_shape);
  cimq::check(batch >= 0 && static_cast<std::int64_t>(x.data.size()) == batch * in_elements, "input: shape ",
              shape_text(x.shape), " does not fit ", x.data.size(), " values");
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    cimq::check(std::isfinite(x.data[i]), "input: must be finite, got ", x.data[i], " at element ", i);
  }
  const compiler::Node& last = graph.nodes[static_cast<std::size_t>(graph.output)];
  const std::int64_t out_elements = compiler::elements(last.shape);
  result.output.shape = last.shape;
  result.output.shape.insert(result.output.shape.begin(), batch);
  result.output.data.resize(static_cast<std::size_t>(batch * out_elements));
  if (keep_layers) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const compiler::Node& node = graph.nodes[i];
      if (!node.crossbar) continue;
      LayerOutput layer{node.crossbar->layer_name, node.shape, steps[i]->exact(), {}, {}};
      layer.shape.insert(layer.shape.begin(), batch);
      const auto size = static_cast<std::size_t>(batch * compiler::elements(node.shape));
      layer.exact ? layer.integers.resize(size) : layer.floats.resize(size);
      result.layers.push_back(std::move(layer));
    }
  }
  if (batch == 0) return;

  const std::int64_t fitting =
      std::max<std::int64_t>(1, kChunkElements / std::max<std::int64_t>(1, memory.peak_elements));
  const std::int64_t fair = (batch + threads - 1) / threads;
  const std::int64_t chunk = std::min(fitting, fair);
  const std::int64_t tasks = (batch + chunk - 1) / chunk;
  // Few samples leave threads over: they split the rows of each layer.
  const int inner_threads = static_cast<int>(std::max<std::int64_t>(1, threads / tasks));
  parallel_for(tasks, threads, [&](std::int64_t task) {
    const std::int64_t begin = task * chunk;
    const std::int64_t size = std::min(chunk, batch - begin);
    std::vector<RawResult> raw;
    for (LayerOutput& layer : result.layers) {
      const std::int64_t offset = begin * compiler::elements(layer.shape) / batch;
      raw.push_back({layer.exact ? layer.integers.data() + offset : nullptr,
                     layer.exact ? nullptr : layer.floats.data() + offset});
    }
    run_chunk(x.data.data() + begin * in_elements, size, result.output.data.data() + begin * out_elements, raw,
              {inner_threads, begin});
  });
}

Executor::Executor(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Executor Executor::load(const std::filesystem::path& folder, const LoadOptions& options) {
  cimq::check(options.threads >= 0, "threads must be 0 (all) or positive, got ", options.threads);
  const BundleFolder bundle(folder);
  auto state = std::make_shared<State>();
  state->options = options;
  state->threads = options.threads > 0 ? options.threads : usable_threads();
  for (const char* name : {"layers.json", "hardware.json", "policy.json"}) state->texts[name] = bundle.read_text(name);
  state->graph = compiler::read_layers(state->texts["layers.json"]);
  if (options.seed) state->graph.seed = *options.seed;
  if (options.chip) state->graph.chip = *options.chip;
  state->hardware = Hardware::from_json(state->texts["hardware.json"]);
  state->memory = plan_memory(state->graph);
  cimq::check(static_cast<std::uint64_t>(state->memory.peak_elements) <= options.max_working_bytes / sizeof(float),
              "layers.json: one sample needs ", state->memory.peak_elements, " live values, more than ",
              options.max_working_bytes, " bytes of working memory");
  const Safetensors weights(bundle.read("weights.safetensors"), "weights.safetensors");
  const StepContext context{state->graph, state->hardware, weights};
  for (const compiler::Node& node : state->graph.nodes) state->steps.push_back(make_step(context, node));
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
  if (!state_->expected) throw Error(message("check: the bundle has no ", kExpected));
  cimq::check(!state_->options.seed && !state_->options.chip,
              "check: the bundle was loaded with another seed or chip than its expected results belong to");
  const Safetensors& expected = *state_->expected;
  const RunResult actual = run_layers({expected.at("input").shape, expected.values<float>("input")});
  CheckReport report;
  const auto same_shape = [&](const std::string& key, const std::vector<std::int64_t>& shape) {
    cimq::check(expected.at(key).shape == shape, kExpected, ": '", key, "' must have shape ", shape_text(shape),
                ", got ", shape_text(expected.at(key).shape));
  };
  for (const LayerOutput& layer : actual.layers) {
    const std::string key = "layer." + layer.name;
    same_shape(key, layer.shape);
    report.entries.push_back(layer.exact ? compare(layer.name, expected.values<std::int32_t>(key), layer.integers)
                                         : compare(layer.name, expected.values<float>(key), layer.floats));
  }
  same_shape("output", actual.output.shape);
  report.entries.push_back(compare("output", expected.values<float>("output"), actual.output.data));
  return report;
}

const compiler::Graph& Executor::graph() const { return state_->graph; }
const Hardware& Executor::hardware() const { return state_->hardware; }
int Executor::threads() const { return state_->threads; }

const std::string& Executor::text_of(const std::string& file) const {
  const auto found = state_->texts.find(file);
  cimq::check(found != state_->texts.end(), "the executor keeps no text of '", file, "'");
  return found->second;
}

}  // namespace cimq::runtime
