#include "compiler/frontends/policy_json.h"

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "compiler/frontends/strict_json.h"

namespace cimq::compiler {
namespace {

constexpr int kMajor = 1;
constexpr int kMaxBits = 8;

using Bits = std::pair<std::int64_t, std::int64_t>;  // of weights, of activations
using BitsByLayer = std::map<std::string, Bits>;

BitsByLayer read_rows(ObjectReader& file) {
  BitsByLayer bits;
  for (const auto& entry : file.array("layers", SIZE_MAX)) {
    ObjectReader row(entry, "policy.json: layers");
    const std::string name = row.text("name");
    const std::int64_t weight_bits = row.integer("weight_bits", 1, kMaxBits);
    const std::int64_t act_bits = row.integer("act_bits", 1, kMaxBits);
    row.finish();
    check(bits.emplace(name, Bits{weight_bits, act_bits}).second, "policy.json: layer '", shown(name),
          "' is given twice");
  }
  return bits;
}

BitsByLayer read_pairs(const nlohmann::json& json, ObjectReader& file) {
  BitsByLayer bits;
  for (const auto& [name, unused] : json.items()) {
    const auto pair = file.integers(name.c_str(), 1, kMaxBits, 2);
    bits.emplace(name, Bits{pair[0], pair[1]});
  }
  return bits;
}

BitsByLayer read_policy(std::string_view text) {
  const nlohmann::json json = parse_strict(text, "policy.json");
  ObjectReader file(json, "policy.json");
  if (!file.has("schema") || !json.at("schema").is_string()) return read_pairs(json, file);
  check_schema(file, "cimq.policy", kMajor);
  BitsByLayer bits = read_rows(file);
  file.finish();
  return bits;
}

}  // namespace

void check_policy(std::string_view text, const Graph& graph) {
  constexpr const char* kDiffer = "policy.json and layers.json state different bits";
  BitsByLayer stated = read_policy(text);
  for (const Node& node : graph.nodes) {
    if (!node.crossbar) continue;
    const CrossbarLayer& layer = *node.crossbar;
    const auto found = stated.find(layer.layer_name);
    check(found != stated.end(), kDiffer, ": layer '", shown(layer.layer_name), "' is not in policy.json");
    check(found->second == Bits{layer.weight_bits, layer.act_bits}, kDiffer, ": layer '", shown(layer.layer_name),
          "' has (", found->second.first, ", ", found->second.second, ") and (", layer.weight_bits, ", ",
          layer.act_bits, ")");
    stated.erase(found);
  }
  check(stated.empty(), kDiffer, ": layers.json has no layer '", stated.empty() ? "" : shown(stated.begin()->first),
        "'");
}

}  // namespace cimq::compiler
