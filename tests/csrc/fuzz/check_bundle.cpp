#include "check_bundle.h"

#include <stdexcept>
#include <string>

#include "bundle_input.h"
#include "common/error.h"
#include "compiler/sim/simulate.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"
#include "runtime/manifest.h"
#include "runtime/network.h"

namespace cimq::testing {
namespace {

/// Small: an input that asks for much is to be refused, not waited for.
runtime::LoadOptions bounds() {
  runtime::LoadOptions options;
  options.threads = 1;
  options.max_working_bytes = std::uint64_t{1} << 22;
  options.max_operations = 1'000'000;
  return options;
}

/// One sample of small numbers.
runtime::Tensor sample_of(const compiler::Graph& graph) {
  runtime::Tensor x;
  x.shape = runtime::batched(1, graph.input_shape);
  for (std::int64_t i = 0; i < compiler::elements(graph.input_shape); ++i) {
    x.data.push_back(static_cast<float>((i * 13) % 41 - 20) * 0.11F);
  }
  return x;
}

void compare(const runtime::RunResult& got, const runtime::RunResult& wanted) {
  for (std::size_t i = 0; i < wanted.layers.size(); ++i) {
    const auto& a = got.layers.at(i);
    const auto& b = wanted.layers[i];
    if (a.name != b.name || a.integers != b.integers || a.floats != b.floats) {
      throw std::logic_error("an accepted program computes another result than the executor in layer " + b.name);
    }
  }
}

}  // namespace

bool check_bundle(const std::uint8_t* data, std::size_t size) {
  const BundleInput bundle(data, size);
  try {
    runtime::parse_manifest(bundle.read_text("manifest.json"));
    const Executor executor = Executor::load(bundle, bounds());
    executor.run(sample_of(executor.graph()));
    if (bundle.contains(runtime::kExpected)) executor.check();
    return true;
  } catch (const Error&) {
    return false;
  }
}

bool check_program(const std::uint8_t* data, std::size_t size) {
  const BundleInput bundle(data, size);
  try {
    runtime::Network network = runtime::read_network(bundle, bounds());
    if (!network.program) return false;
    compiler::simulate(*network.program, network.graph);
    const Executor executor = Executor::load(bundle, bounds());
    const runtime::Safetensors weights(bundle.read(runtime::kWeights), runtime::kWeights);
    const runtime::Interpreter interpreter(network.graph, std::move(*network.program), weights, bounds());
    const runtime::Tensor x = sample_of(executor.graph());
    const runtime::RunResult got = interpreter.run_layers(x);
    compare(got, executor.run_layers(x));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace cimq::testing
