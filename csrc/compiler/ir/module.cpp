#include "compiler/ir/module.h"

#include "common/error.h"

namespace cimq::compiler {

std::int64_t LayerPlacement::crossbar_of(std::int64_t group, std::int64_t tile, std::int64_t groups, std::int64_t tiles,
                                         std::int64_t copy) const {
  const std::int64_t each = copies * tiles;  // crossbars of a group
  const std::int64_t number = group * each + copy * tiles + tile;
  if (number < resident) return first + number;
  const auto pool = static_cast<std::int64_t>(crossbars.size());
  std::int64_t place = tile % pool;
  if (groups == 1) {
    place = (number - resident) % pool;
  } else if (each <= pool) {
    place = (group - resident / each) % (pool / each) * each + copy * tiles + tile;
  }
  return crossbars[static_cast<std::size_t>(place)];
}

std::string_view name_of(Part part) {
  switch (part) {
    case Part::kTiles:
      return "tiles";
    case Part::kCopies:
      return "copies";
    case Part::kPlacement:
      return "placement";
    case Part::kSchedule:
      return "schedule";
    case Part::kProgram:
      return "program";
  }
  throw Error(message("part ", static_cast<int>(part), " has no name"));
}

const std::vector<TiledLayer>& tiles_of(const Module& module) {
  if (!module.tiles) throw Error("the module has no tiles");
  return *module.tiles;
}

const std::vector<std::int64_t>& copies_of(const Module& module) {
  if (!module.copies) throw Error("the module has no copies");
  return *module.copies;
}

const std::vector<LayerPlacement>& placement_of(const Module& module) {
  if (!module.placement) throw Error("the module has no placement");
  return *module.placement;
}

const std::vector<RowSet>& schedule_of(const Module& module) {
  if (!module.schedule) throw Error("the module has no schedule");
  return *module.schedule;
}

const Program& program_of(const Module& module) {
  if (!module.program) throw Error("the module has no program");
  return *module.program;
}

bool Module::has(Part part) const {
  switch (part) {
    case Part::kTiles:
      return tiles.has_value();
    case Part::kCopies:
      return copies.has_value();
    case Part::kPlacement:
      return placement.has_value();
    case Part::kSchedule:
      return schedule.has_value();
    case Part::kProgram:
      return program.has_value();
  }
  return false;
}

}  // namespace cimq::compiler
