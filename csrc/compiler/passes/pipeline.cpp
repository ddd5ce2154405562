#include "compiler/passes/pipeline.h"

#include <utility>

#include "common/error.h"
#include "common/printable.h"
#include "compiler/ir/limits.h"
#include "compiler/passes/check.h"
#include "compiler/passes/duplicate.h"
#include "compiler/passes/fastest.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/place.h"
#include "compiler/passes/tile.h"

namespace cimq::compiler {

namespace {

Pipeline closed_form_pipeline() {
  return {
      // First: how many crossbars a layer needs is what placing is about.
      tile_pass(),
      // Before lowering: a program names the crossbar of every tile.
      place_in_turn_pass(),
      lower_in_turn_pass(),
      // Last: whatever was decided above, the program must do the network's work,
      verify_pass(),
      // and this pipeline promises the closed form's time, so its counts as well.
      closed_form_pass(),
  };
}

Pipeline stationary_pipeline() {
  return {
      tile_pass(),
      // How often a layer's tiles are there decides how many crossbars it fills, which is what placing is about.
      duplicate_pass(),
      // Which tiles stay depends on how many there are and on what passing through the pool would cost each layer.
      place_stationary_pass(),
      lower_stationary_pass(),
      // Its writes are fewer than the closed form's, so that the semantic check is the only one.
      verify_pass(),
  };
}

Pipeline pipelined_pipeline() {
  return {
      tile_pass(),
      // Copies, placement and order of rows depend on one another: whole programs are compared.
      fastest_pass(),
      // The one that was taken; those that were only timed need no check.
      verify_pass(),
  };
}

}  // namespace

Pipeline pipeline_named(std::string_view name) {
  if (name == "closed_form") return closed_form_pipeline();
  if (name == "stationary") return stationary_pipeline();
  if (name == "pipelined") return pipelined_pipeline();
  throw Error(message("there is no pipeline '", printable(name, 80),
                      "'; the pipelines are closed_form, stationary, pipelined"));
}

Module compile_graph(const Graph& graph, const Hardware& hardware, const Pipeline& pipeline, Context& context) {
  Module module;
  module.graph = graph;
  module.hardware = hardware;
  check(context.batch >= 1 && context.batch <= kMaxBatch, "batch must be from 1 to ", kMaxBatch, ", got ",
        context.batch);
  module.batch = context.batch;
  run_pipeline(pipeline, module, context);
  return module;
}

Module compile_graph(const Graph& graph, const Hardware& hardware) {
  Context context;
  return compile_graph(graph, hardware, pipeline_named("closed_form"), context);
}

}  // namespace cimq::compiler
