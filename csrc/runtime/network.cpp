#include "runtime/network.h"

#include <cmath>
#include <utility>

#include "common/error.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/policy_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/verify/program.h"

namespace cimq::runtime {
namespace {

constexpr const char* kProgram = "program.jsonl";

}  // namespace

Network read_network(const BundleFiles& bundle, const LoadOptions& options) {
  Network network;
  for (const char* name : {"manifest.json", "layers.json", "hardware.json", "policy.json"}) {
    network.texts[name] = bundle.read_text(name);
  }
  network.graph = compiler::read_layers(network.texts["layers.json"]);
  if (options.seed) network.graph.seed = *options.seed;
  if (options.chip) network.graph.chip = *options.chip;
  network.hardware = Hardware::from_json(network.texts["hardware.json"]);
  compiler::check_policy(network.texts["policy.json"], network.graph);
  if (bundle.contains(kProgram)) {
    network.program = compiler::read_program(bundle.read_text(kProgram));
    check(network.program->hardware.to_json() == network.hardware.to_json(),
          "program.jsonl: line 1: hardware must be that of hardware.json");
    compiler::verify_program(*network.program, network.graph);
  }
  return network;
}

void check_input(const compiler::Graph& graph, const Tensor& x) {
  const std::int64_t batch = x.shape.empty() ? 0 : x.shape[0];
  const compiler::Shape wanted = batched(batch, graph.input_shape);
  check(x.shape == wanted, "input: shape must be [batch, ...] = ", shape_text(wanted), ", got ", shape_text(x.shape));
  check(batch >= 0 && static_cast<std::int64_t>(x.data.size()) == batch * compiler::elements(graph.input_shape),
        "input: shape ", shape_text(x.shape), " does not fit ", x.data.size(), " values");
  for (std::size_t i = 0; i < x.data.size(); ++i) {
    check(std::isfinite(x.data[i]), "input: must be finite, got ", x.data[i], " at element ", i);
  }
}

compiler::Shape batched(std::int64_t batch, compiler::Shape shape) {
  shape.insert(shape.begin(), batch);
  return shape;
}

}  // namespace cimq::runtime
