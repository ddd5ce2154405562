#include "compiler/frontends/copies_json.h"

#include "compiler/frontends/strict_json.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {

std::map<std::string, std::int64_t> read_copies(std::string_view text) {
  const nlohmann::json json = parse_strict(text, "duplication");
  ObjectReader file(json, "duplication");
  std::map<std::string, std::int64_t> copies;
  for (const auto& [name, unused] : json.items()) {
    copies.emplace(name, file.integer(name.c_str(), 1, kMaxCrossbars));
  }
  return copies;
}

}  // namespace cimq::compiler
