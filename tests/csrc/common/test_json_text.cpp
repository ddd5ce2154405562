#include <catch2/catch.hpp>
#include <chrono>
#include <string>

#include "common/error.h"
#include "common/json_text.h"

using Catch::Matchers::Contains;
using cimq::parse_json_text;
using nlohmann::json;

namespace {

/// A list of `count` times `part`.
std::string repeated(const std::string& part, int count) {
  std::string text = "[";
  for (int i = 0; i < count; ++i) {
    if (i > 0) text.push_back(',');
    text += part;
  }
  text.push_back(']');
  return text;
}

void refused(const std::string& text, const char* part, const cimq::JsonLimits& limits = {}) {
  CHECK_THROWS_WITH(parse_json_text(text, "file", limits), Contains("file: ") && Contains(part));
}

}  // namespace

TEST_CASE("JSON text gives the values that nlohmann's own parser gives", "[json]") {
  for (const char* text :
       {"null", "true", "-3", "18446744073709551615", "-9223372036854775808", "0.1", "1e-300", "\"\\u00e9\\n\"", "[]",
        "{}", R"({"a": [1, [2, {"b": null}], {}], "c": {"d": {"e": [[]]}}, "": "x"})", " [1 ,2\n] "}) {
    INFO(text);
    CHECK(parse_json_text(text, "file") == json::parse(text));
  }
}

TEST_CASE("JSON text that is wrong is refused", "[json]") {
  refused("", "not valid JSON");
  refused("[1", "not valid JSON");
  refused("[1] 2", "not valid JSON");
  refused("{\"a\": 1e400}", "not valid JSON");
  refused("\"\xff\"", "not valid JSON");
  refused("\xef\xbb\xbf{}", "begins with a byte order mark");
  refused(R"({"a": 1, "b": {"a": 2}, "a": 3})", "the key 'a' is given twice");
  refused("{\"\\u001b[2J\": 1, \"\\u001b[2J\": 1}", R"(the key '\x1b[2J' is given twice)");
  refused(std::string(33, '['), "nested deeper than 32 levels", {.depth = 32});
  refused(std::string(100'000, '['), "not valid JSON");
  refused("[[[]]]", "nested deeper than 2 levels", {.depth = 2});
  refused("[1, 2, 3]", "more than 3 JSON values", {.values = 3});
  CHECK(parse_json_text("[[1, 2]]", "file", {.depth = 2, .values = 4}).size() == 1);
}

TEST_CASE("Reading JSON takes time in proportion to its size", "[json]") {
  // At the end of every object nlohmann's parser with a callback looks through those before: minutes for these.
  constexpr int kObjects = 400'000;
  const auto start = std::chrono::steady_clock::now();
  CHECK(parse_json_text(repeated("{}", kObjects), "file").size() == kObjects);
  CHECK(parse_json_text(repeated("[]", kObjects), "file").size() == kObjects);
  CHECK(parse_json_text(repeated("{\"a\":[{}]}", kObjects), "file").size() == kObjects);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}
