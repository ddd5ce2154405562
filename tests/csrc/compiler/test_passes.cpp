// The pass manager: what passes need of one another, and looking at a module in between.
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/cost/network.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/check.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/pipeline.h"
#include "compiler/passes/place.h"
#include "compiler/passes/tile.h"
#include "runtime/bundle_fixture.h"

using namespace cimq::compiler;
using Catch::Matchers::Contains;

namespace {

Module small_module() {
  Module module;
  module.graph = read_layers(cimq::test::layers_of_small_net().dump());
  return module;
}

void refused(const Pipeline& pipeline, const char* part) {
  Module module = small_module();
  Context context;
  CHECK_THROWS_WITH(run_pipeline(pipeline, module, context), Contains(part));
}

}  // namespace

TEST_CASE("A list of passes in the wrong order is refused", "[passes]") {
  refused({place_in_turn_pass(), tile_pass()}, "the pass 'place' needs the tiles of the network");
  refused({tile_pass(), lower_in_turn_pass()}, "the pass 'lower' needs the placement of the network");
  refused({tile_pass(), place_in_turn_pass(), verify_pass()}, "the pass 'verify' needs the program of the network");
  refused({place_in_turn_pass()}, "the passes are place");
}

TEST_CASE("A pass that does not make what it says is found out", "[passes]") {
  refused({{"idle", {}, Part::kTiles, [](Module&, Context&) {}}}, "the pass 'idle' did not make the tiles");
}

TEST_CASE("What was made from an older part is made anew", "[passes]") {
  Module module = small_module();
  Context context;
  run_pipeline(pipeline_named("closed_form"), module, context);
  REQUIRE(module.program);
  run_pipeline({place_in_turn_pass()}, module, context);
  CHECK(module.has(Part::kPlacement));
  CHECK_FALSE(module.has(Part::kProgram));
  run_pipeline({tile_pass()}, module, context);
  CHECK_FALSE(module.has(Part::kPlacement));
}

TEST_CASE("The module can be looked at after every pass", "[passes]") {
  for (const Pass& pass : pipeline_named("closed_form")) {
    Module module = small_module();
    Context context{.dump_after = std::string(pass.name)};
    run_pipeline(pipeline_named("closed_form"), module, context);
    INFO(pass.name);
    CHECK_THAT(context.dump, Contains(R"({"part":"graph","node":"conv")") && Contains(R"("part":"tiles")"));
    CHECK((context.dump.find(R"("part":"placement")") != std::string::npos) == (pass.name != "tile"));
    CHECK((context.dump.find(R"("op":"PROGRAM")") != std::string::npos) ==
          (pass.name != "tile" && pass.name != "place"));
  }
  Module module = small_module();
  Context context{.dump_after = "fuse\n"};
  CHECK_THROWS_WITH(run_pipeline(pipeline_named("closed_form"), module, context),
                    Contains("there is no pass 'fuse\\n'; the passes are tile, place, lower, verify, closed_form"));
}

TEST_CASE("The closed form is a promise of its own pipeline alone", "[passes]") {
  Module module = small_module();
  Context context;
  run_pipeline(pipeline_named("closed_form"), module, context);
  // The first tile is written twice: right, and not the closed form.
  auto& code = module.program->code;
  const auto write = std::ranges::find_if(code, [](const auto& i) { return std::holds_alternative<isa::Write>(i); });
  code.insert(write, *write);
  module.program->counts.writes += 2;  // once per group
  CHECK_NOTHROW(run_pipeline({verify_pass()}, module, context));
  CHECK_THROWS_WITH(run_pipeline({verify_pass(), closed_form_pass()}, module, context),
                    Contains("5 writes") || Contains("the closed form gives"));
}
