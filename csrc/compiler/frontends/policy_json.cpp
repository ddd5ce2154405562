#include "compiler/frontends/policy_json.h"

#include <cstdint>
#include <map>
#include <string>

#include "compiler/frontends/layer_machine_json.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::compiler {
namespace {

constexpr int kMajor = 1;
constexpr int kMaxBits = 8;

struct Row {
  std::int64_t weight_bits = 0, act_bits = 0;
  LayerMachine machine;

  bool operator==(const Row&) const = default;
};
using RowByLayer = std::map<std::string, Row>;

/// "(4, 5)", or "(4, 5, 6-bit converters, offset)" for a layer that is not as the machine.
std::string text_of(const Row& row) {
  const std::string bits = message("(", row.weight_bits, ", ", row.act_bits);
  return row.machine.is_as_the_machine() ? bits + ")" : message(bits, ", ", text_of(row.machine), ")");
}

RowByLayer read_rows(ObjectReader& file) {
  RowByLayer rows;
  for (const auto& entry : file.array("layers", SIZE_MAX)) {
    ObjectReader row(entry, "policy.json: layers");
    const std::string name = row.text("name");
    const std::int64_t weight_bits = row.integer("weight_bits", 1, kMaxBits);
    const std::int64_t act_bits = row.integer("act_bits", 1, kMaxBits);
    const LayerMachine machine = read_machine(row);
    row.finish();
    check(rows.emplace(name, Row{weight_bits, act_bits, machine}).second, "policy.json: layer '", shown(name),
          "' is given twice");
  }
  return rows;
}

RowByLayer read_pairs(const nlohmann::json& json, ObjectReader& file) {
  RowByLayer rows;
  for (const auto& [name, unused] : json.items()) {
    const auto pair = file.integers(name.c_str(), 1, kMaxBits, 2);
    rows.emplace(name, Row{pair[0], pair[1], {}});
  }
  return rows;
}

RowByLayer read_policy(std::string_view text) {
  const nlohmann::json json = parse_strict(text, "policy.json");
  ObjectReader file(json, "policy.json");
  if (!file.has("schema") || !json.at("schema").is_string()) return read_pairs(json, file);
  check_schema(file, "cimq.policy", kMajor);
  RowByLayer rows = read_rows(file);
  file.finish();
  return rows;
}

}  // namespace

void check_policy(std::string_view text, const Graph& graph) {
  constexpr const char* kDiffer = "policy.json and layers.json state different bits";
  RowByLayer stated = read_policy(text);
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    const auto found = stated.find(layer.layer_name);
    check(found != stated.end(), kDiffer, ": layer '", shown(layer.layer_name), "' is not in policy.json");
    const Row own{layer.weight_bits, layer.act_bits, layer.machine};
    check(found->second == own, kDiffer, ": layer '", shown(layer.layer_name), "' has ", text_of(found->second),
          " and ", text_of(own));
    stated.erase(found);
  }
  check(stated.empty(), kDiffer, ": layers.json has no layer '", stated.empty() ? "" : shown(stated.begin()->first),
        "'");
}

}  // namespace cimq::compiler
