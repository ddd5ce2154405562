#include "compiler/passes/duplicate.h"

#include <algorithm>

#include "common/error.h"
#include "common/printable.h"
#include "compiler/passes/loads.h"
#include "compiler/plan/stationary.h"

namespace cimq::compiler {
namespace {

constexpr std::size_t kShownLength = 80;

std::vector<std::int64_t> given(const Module& module, const std::map<std::string, std::int64_t>& by_name) {
  const std::vector<LayerLoad> loads = loads_of(module);
  const auto& limit = module.hardware.resources.crossbars;
  std::vector<std::int64_t> copies;
  std::size_t used = 0;
  for (const LayerLoad& load : loads) {
    const std::string& name = crossbar_of(module.graph.nodes[tiles_of(module)[copies.size()].node]).layer_name;
    const auto found = by_name.find(name);
    copies.push_back(found == by_name.end() ? 1 : found->second);
    if (found == by_name.end()) continue;
    ++used;
    check(copies.back() >= 1 && copies.back() <= load.vectors, "duplication: layer '", printable(name, kShownLength),
          "': copies must be from 1 to ", load.vectors, ", the number of its input vectors, got ", copies.back());
    const std::int64_t most = std::max<std::int64_t>(1, limit.value_or(load.vectors * load.tiles) / load.tiles);
    check(copies.back() <= most, "duplication: layer '", printable(name, kShownLength), "': ", copies.back(),
          " copies of ", load.tiles, " crossbars each are more than the machine's ", limit.value_or(0), "; at most ",
          most);
  }
  if (used < by_name.size()) {
    for (const auto& [name, unused] : by_name) {
      const auto is_it = [&](const TiledLayer& layer) {
        return crossbar_of(module.graph.nodes[layer.node]).layer_name == name;
      };
      check(std::ranges::any_of(tiles_of(module), is_it), "duplication: the network has no crossbar layer '",
            printable(name, kShownLength), "'");
    }
  }
  return copies;
}

void duplicate(Module& module, Context& context) {
  if (const auto* rule = std::get_if<CopyRule>(&context.duplication)) {
    check(*rule != CopyRule::kAny, "duplication 'any' compares programs: it needs the pipeline 'pipelined'");
    const std::vector<LayerLoad> loads = loads_of(module);
    PlanMemory memory(pool_machine(module.hardware, module.batch));
    module.copies = *rule == CopyRule::kNone
                        ? std::vector<std::int64_t>(loads.size(), 1)
                        : plan_copies(memory, loads, module.hardware.resources.crossbars, *rule).copies;
    return;
  }
  module.copies = given(module, std::get<std::map<std::string, std::int64_t>>(context.duplication));
}

}  // namespace

Pass duplicate_pass() { return {"duplicate", {Part::kTiles}, Part::kCopies, duplicate}; }

}  // namespace cimq::compiler
