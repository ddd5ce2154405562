// Pooling to sizes, resizing, means and rearrangements in layers.json: shapes that follow, attributes that are refused.
#include <catch2/catch.hpp>
#include <string>

#include "common/error.h"
#include "compiler/frontends/layers_json.h"
#include "runtime/bundle_fixture.h"

using Catch::Matchers::Contains;
using cimq::compiler::read_layers;
using nlohmann::json;

namespace {

std::string file_of(const char* op, const json& attrs, const json& shape, const json& input_shape) {
  const json node = {{"name", "n"},    {"op", op},       {"inputs", {"x"}},
                     {"shape", shape}, {"attrs", attrs}, {"tensors", json::object()}};
  return json{{"schema", "cimq.layers"},
              {"version", "1.3.0"},
              {"input", {{"name", "x"}, {"shape", input_shape}, {"dtype", "float32"}}},
              {"output", "n"},
              {"nodes", {node}}}
      .dump();
}

void taken(const char* op, const json& attrs, const json& shape, const json& input_shape = {4, 5, 6}) {
  INFO(op << " " << attrs.dump());
  CHECK_NOTHROW(read_layers(file_of(op, attrs, shape, input_shape)));
}

void refused(const char* op, const json& attrs, const json& shape, const char* part,
             const json& input_shape = {4, 5, 6}) {
  INFO(op << " " << attrs.dump());
  CHECK_THROWS_WITH(read_layers(file_of(op, attrs, shape, input_shape)), Contains("node 'n'") && Contains(part));
}

json pool(const json& more) {
  json attrs = {{"kernel", {3, 3}}, {"stride", {2, 2}}, {"padding", {0, 0}}};
  attrs.update(more);
  return attrs;
}

}  // namespace

TEST_CASE("pooling may round its size up", "[layers]") {
  const json average = {{"count_include_pad", true}};
  taken("avg_pool2d", pool(average), {4, 2, 2});
  taken("avg_pool2d", pool({{"count_include_pad", true}, {"ceil_mode", true}}), {4, 2, 3});
  taken("avg_pool2d", pool({{"count_include_pad", true}, {"divisor", 7}}), {4, 2, 2});
  taken("max_pool2d", pool({{"dilation", {1, 1}}, {"ceil_mode", true}}), {4, 2, 3});
  taken("max_pool2d", pool({{"dilation", {1, 1}}, {"ceil_mode", true}}), {4, 1, 1}, {4, 2, 2});
  refused("max_pool2d", pool({{"dilation", {1, 1}}}), {4, 1, 1}, "does not fit", {4, 2, 2});
  refused("max_pool2d", pool({{"dilation", {2, 1}}, {"ceil_mode", true}}), {4, 1, 1}, "does not fit", {4, 2, 2});
  refused("max_pool2d", pool({{"dilation", {1, 1}}, {"ceil_mode", true}}), {4, 2, 2}, "does not follow");
  refused("max_pool2d", pool({{"dilation", {1, 1}}, {"ceil_mode", 1}}), {4, 2, 3}, "ceil_mode");
  refused("max_pool2d", pool({{"dilation", {1, 1}}, {"divisor", 7}}), {4, 2, 2}, "unknown key 'divisor'");
  for (const std::int64_t divisor : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1} << 40}) {
    refused("avg_pool2d", pool({{"count_include_pad", true}, {"divisor", divisor}}), {4, 2, 2}, "divisor");
  }
}

TEST_CASE("pooling and resizing to a size", "[layers]") {
  for (const char* op : {"adaptive_avg_pool2d", "adaptive_max_pool2d", "resize_nearest", "resize_bilinear"}) {
    json attrs = json::object();
    if (std::string(op).starts_with("resize")) attrs = {{"row_step", 0.5}, {"column_step", 2.0}};
    if (std::string(op) == "resize_bilinear") attrs["align_corners"] = true;
    const auto with = [&](const json& size) {
      json result = attrs;
      result["size"] = size;
      return result;
    };
    taken(op, with({10, 3}), {4, 10, 3});
    refused(op, with({10, 3}), {4, 10, 4}, "does not follow");
    refused(op, with({10, 3}), {5, 10, 3}, "does not follow");
    refused(op, with({10, 3}), {10, 3}, "[C, H, W]", {5, 6});
    refused(op, with({0, 3}), {4, 10, 3}, "size");
    refused(op, with({-1, 3}), {4, 10, 3}, "size");
    refused(op, with({10}), {4, 10, 3}, "size");
    refused(op, with({65537, 1}), {4, 65537, 1}, "size");
    refused(op, with({65536, 65536}), {4, 65536, 65536}, "elements per sample");
    refused(op, attrs, {4, 10, 3}, "size");
  }
  for (const char* key : {"row_step", "column_step"}) {
    for (const json& value : {json(0.0), json(-0.5), json(1e39), json(nullptr), json("1")}) {
      json attrs = {{"size", {2, 2}}, {"row_step", 1.0}, {"column_step", 1.0}};
      attrs[key] = value;
      refused("resize_nearest", attrs, {4, 2, 2}, key);
    }
  }
}

TEST_CASE("means name dimensions once", "[layers]") {
  taken("mean", {{"dims", {1}}}, {4, 6});
  taken("mean", {{"dims", {2, 0}}}, {1, 5, 1});
  taken("mean", {{"dims", {0, 1, 2}}}, json::array());
  refused("mean", {{"dims", {1}}}, {4, 5}, "does not follow");
  refused("mean", {{"dims", json::array()}}, {4, 5, 6}, "dims must name");
  refused("mean", {{"dims", {1, 1}}}, {4, 6}, "twice");
  refused("mean", {{"dims", {3}}}, {4, 5, 6}, "dims must be below 3");
  refused("mean", {{"dims", {-1}}}, {4, 5}, "dims");
  refused("mean", {{"dims", 1}}, {4, 6}, "dims");
}

TEST_CASE("an order of dimensions names each of them", "[layers]") {
  taken("transpose", {{"perm", {2, 0, 1}}}, {6, 4, 5});
  refused("transpose", {{"perm", {2, 0, 1}}}, {4, 5, 6}, "does not follow");
  refused("transpose", {{"perm", {0, 1}}}, {4, 5}, "perm must have 3 entries");
  refused("transpose", {{"perm", {0, 1, 2, 3}}}, {4, 5, 6}, "perm must have 3 entries");
  refused("transpose", {{"perm", {0, 1, 1}}}, {4, 5, 5}, "perm must not name a dimension twice");
  refused("transpose", {{"perm", {0, 1, 3}}}, {4, 5, 6}, "perm must be below 3");
  refused("transpose", {{"perm", {0, 1, -1}}}, {4, 5, 6}, "perm");
  refused("transpose", {{"perm", {0, 1, 2}}, {"dims", {0}}}, {4, 5, 6}, "unknown key 'dims'");
  taken("flip", {{"dims", {2, 0}}}, {4, 5, 6});
  refused("flip", {{"dims", {0, 0}}}, {4, 5, 6}, "twice");
  refused("flip", {{"dims", {3}}}, {4, 5, 6}, "below 3");
}

TEST_CASE("only dimensions of 1 are repeated", "[layers]") {
  taken("expand", json::object(), {4, 7, 6}, {4, 1, 6});
  refused("expand", json::object(), {4, 10, 6}, "cannot repeat");
  refused("expand", json::object(), {4, 5, 6, 1}, "cannot repeat");
  refused("expand", json::object(), {268435456, 2}, "elements per sample", {1, 1});
}

TEST_CASE("borders made of the inside are no larger than it", "[layers]") {
  const auto both = [](const json& before, const json& after) { return json{{"before", before}, {"after", after}}; };
  taken("reflection_pad", both({0, 4, 5}, {0, 4, 0}), {4, 13, 11});
  taken("circular_pad", both({4, 5, 6}, {0, 5, 0}), {8, 15, 12});
  taken("replication_pad", both({0, 50, 0}, {0, 0, 60}), {4, 55, 66});
  refused("reflection_pad", both({0, 5, 0}, {0, 0, 0}), {4, 10, 6}, "at most 4 in dimension 1");
  refused("reflection_pad", both({0, 0, 0}, {4, 0, 0}), {8, 5, 6}, "at most 3 in dimension 0");
  refused("circular_pad", both({0, 0, 7}, {0, 0, 0}), {4, 5, 13}, "at most 6 in dimension 2");
  for (const char* op : {"reflection_pad", "circular_pad", "replication_pad"}) {
    refused(op, both({0, 0}, {0, 0, 0}), {4, 5, 6}, "3 entries");
    refused(op, both({0, -1, 0}, {0, 0, 0}), {4, 4, 6}, "before");
    refused(op, both({0, 0, 0}, {0, 0, 65537}), {4, 5, 65543}, "after");
    refused(op, {{"before", {0, 0, 0}}, {"after", {0, 0, 0}}, {"value", 0}}, {4, 5, 6}, "unknown key 'value'");
  }
}
