#include "compiler/passes/pipeline.h"

#include <utility>

#include "compiler/passes/check.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/place.h"
#include "compiler/passes/tile.h"

namespace cimq::compiler {

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

Module compile_graph(const Graph& graph, const Hardware& hardware, Context& context) {
  Module module;
  module.graph = graph;
  module.hardware = hardware;
  run_pipeline(closed_form_pipeline(), module, context);
  return module;
}

Module compile_graph(const Graph& graph, const Hardware& hardware) {
  Context context;
  return compile_graph(graph, hardware, context);
}

}  // namespace cimq::compiler
