#include "compiler/verify/closed_form.h"

#include "common/error.h"
#include "compiler/cost/network.h"

namespace cimq::compiler {

void check_closed_form(const Program& program, const Graph& graph, const Hardware& hardware) {
  const ProgramCounts& counts = program.counts;
  const NetworkCost cost = closed_form(graph, hardware, program.batch);
  check(counts.writes == cost.writes && counts.mvms == cost.mvms && counts.setup_writes == 0, "the program has ",
        counts.writes, " writes and ", counts.mvms, " MVMs, the closed form gives ", cost.writes, " and ", cost.mvms);
}

}  // namespace cimq::compiler
