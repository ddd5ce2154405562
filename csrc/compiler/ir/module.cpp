#include "compiler/ir/module.h"

#include "common/error.h"

namespace cimq::compiler {

std::string_view name_of(Part part) {
  switch (part) {
    case Part::kTiles:
      return "tiles";
    case Part::kPlacement:
      return "placement";
    case Part::kProgram:
      return "program";
  }
  throw Error(message("part ", static_cast<int>(part), " has no name"));
}

bool Module::has(Part part) const {
  switch (part) {
    case Part::kTiles:
      return tiles.has_value();
    case Part::kPlacement:
      return placement.has_value();
    case Part::kProgram:
      return program.has_value();
  }
  return false;
}

}  // namespace cimq::compiler
