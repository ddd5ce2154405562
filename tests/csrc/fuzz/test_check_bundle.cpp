// The body of the fuzzing of readers on some changed bundles, where no fuzzer is at hand.
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <random>

#include "bundle_input.h"
#include "check_bundle.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/pipeline.h"
#include "mutate_bundle.h"
#include "runtime/random_net.h"

namespace cimq::testing {
namespace {

using namespace cimq::test;

/// A bundle with a program, as bytes.
std::vector<std::uint8_t> random_bundle(unsigned seed) {
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware, seed % 2 == 1);
  BundleInput bundle;
  bundle.files = net.files;
  const std::string manifest = R"({"schema":"cimq.bundle","version":"1.0.0","required_extensions":[],"files":[]})";
  bundle.files["manifest.json"] = bytes_of(manifest);
  const auto graph = compiler::read_layers(net.layers.dump());
  const char* pipeline = draw.one_in(2) ? "pipelined" : draw.one_in(2) ? "stationary" : "closed_form";
  compiler::Context context;
  const auto module = compiler::compile_graph(graph, hardware, compiler::pipeline_named(pipeline), context);
  bundle.files["program.jsonl"] = bytes_of(compiler::write_program(*module.program));
  return bundle.packed();
}

}  // namespace

TEST_CASE("Changed bundles are refused, or run; accepted programs compute what the executor computes", "[fuzz]") {
  std::mt19937 random(11 + Catch::rngSeed());
  const MutateBytes bytes = [&](std::uint8_t* data, std::size_t size, std::size_t largest) {
    if (size == 0 || largest > size) data[size] = static_cast<std::uint8_t>(random());
    const std::size_t kept = random() % 4 == 0 ? random() % (size + 1) : size;
    if (kept > 0) data[random() % kept] = static_cast<std::uint8_t>(random());
    return kept;
  };
  int loaded = 0;
  int accepted = 0;
  int refused = 0;
  for (unsigned seed = 0; seed < 12; ++seed) {
    const auto original = random_bundle(seed);
    REQUIRE(check_bundle(original.data(), original.size()));
    REQUIRE(check_program(original.data(), original.size()));
    for (int i = 0; i < 40; ++i) {
      BundleInput bundle(original.data(), original.size());
      mutate_bundle(bundle, static_cast<std::uint32_t>(random()), bytes);
      const auto changed = bundle.packed();
      INFO("seed " << seed << ", change " << i);
      check_bundle(changed.data(), changed.size()) ? ++loaded : ++refused;
      if (check_program(changed.data(), changed.size())) ++accepted;
    }
  }
  // Changes that reach what is behind the parsers: some networks still load, most do not.
  CHECK(loaded > 10);
  CHECK(accepted > 5);
  CHECK(refused > 100);
}

}  // namespace cimq::testing
