#include "compiler/passes/pass.h"

#include <algorithm>

#include "common/error.h"
#include "common/printable.h"
#include "compiler/emit/module_json.h"

namespace cimq::compiler {
namespace {

constexpr std::size_t kShownLength = 80;

std::string names_of(const Pipeline& pipeline) {
  std::string names;
  for (const Pass& pass : pipeline) names += message(names.empty() ? "" : ", ", pass.name);
  return names;
}

/// What was made from a part that is made anew no longer fits it.
void drop_after(Module& module, Part part) {
  if (part < Part::kCopies) module.copies.reset();
  if (part < Part::kPlacement) module.placement.reset();
  if (part < Part::kSchedule) module.schedule.reset();
  if (part < Part::kProgram) module.program.reset();
}

}  // namespace

void run_pipeline(const Pipeline& pipeline, Module& module, Context& context) {
  check(context.dump_after.empty() || std::ranges::find(pipeline, context.dump_after, &Pass::name) != pipeline.end(),
        "there is no pass '", printable(context.dump_after, kShownLength), "'; the passes are ", names_of(pipeline));
  module.hardware.validate();
  for (const Pass& pass : pipeline) {
    for (const Part part : pass.needs) {
      check(module.has(part), "the pass '", pass.name, "' needs the ", name_of(part),
            " of the network, which no pass before it makes; the passes are ", names_of(pipeline));
    }
    pass.run(module, context);
    if (const std::optional<Part> gives = pass.gives) {
      const Part part = *gives;
      check(module.has(part), "the pass '", pass.name, "' did not make the ", name_of(part));
      drop_after(module, part);
    }
    if (pass.name == context.dump_after) context.dump = write_module(module);
  }
}

}  // namespace cimq::compiler
