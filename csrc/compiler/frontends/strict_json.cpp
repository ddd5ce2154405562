#include "compiler/frontends/strict_json.h"

#include <charconv>
#include <cmath>

#include "common/json_text.h"
#include "common/printable.h"

namespace cimq::compiler {
namespace {

constexpr std::size_t kMaxDepth = 32;
constexpr std::size_t kShownLength = 80;
constexpr std::size_t kMaxSmallArray = 64;

bool is_integer_in(const nlohmann::json& value, std::int64_t lo, std::int64_t hi) {
  if (!value.is_number_integer()) return false;
  // A number above the signed range would wrap into it.
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) return false;
  const auto number = value.get<std::int64_t>();
  return number >= lo && number <= hi;
}

std::string shown_value(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return message("an array of ", value.size());
  return shown(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

std::string shown(std::string_view text) { return printable(text, kShownLength); }

nlohmann::json parse_strict(std::string_view text, std::string_view what) {
  return parse_json_text(text, what, {.depth = kMaxDepth});
}

ObjectReader::ObjectReader(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  check(object.is_object(), where_, ": must be a JSON object, got ", shown_value(object));
}

const nlohmann::json& ObjectReader::value(const char* key) {
  asked_.insert(key);
  const auto found = object_.find(key);
  check(found != object_.end(), where_, ": the key '", key, "' is missing");
  return *found;
}

std::string ObjectReader::text(const char* key, std::size_t max_length) {
  const auto& found = value(key);
  check(found.is_string() && found.get_ref<const std::string&>().size() <= max_length, where_, ": ", key,
        " must be a text of at most ", max_length, " bytes, got ", shown_value(found));
  return found.get<std::string>();
}

std::int64_t ObjectReader::integer(const char* key, std::int64_t lo, std::int64_t hi) {
  const auto& found = value(key);
  check(is_integer_in(found, lo, hi), where_, ": ", key, " must be an integer from ", lo, " to ", hi, ", got ",
        shown_value(found));
  return found.get<std::int64_t>();
}

double ObjectReader::number(const char* key) {
  const auto& found = value(key);
  check(found.is_number() && std::isfinite(found.get<double>()), where_, ": ", key, " must be a finite number, got ",
        shown_value(found));
  return found.get<double>();
}

bool ObjectReader::boolean(const char* key) {
  const auto& found = value(key);
  check(found.is_boolean(), where_, ": ", key, " must be true or false, got ", shown_value(found));
  return found.get<bool>();
}

const nlohmann::json& ObjectReader::array(const char* key, std::size_t max_length) {
  const auto& found = value(key);
  check(found.is_array() && found.size() <= max_length, where_, ": ", key, " must be an array of at most ", max_length,
        " entries, got ", shown_value(found));
  return found;
}

std::vector<std::int64_t> ObjectReader::integers(const char* key, std::int64_t lo, std::int64_t hi, int length) {
  const auto& found = array(key, kMaxSmallArray);
  check(length < 0 || found.size() == static_cast<std::size_t>(length), where_, ": ", key, " must have ", length,
        " entries, got ", found.size());
  std::vector<std::int64_t> result;
  for (const auto& entry : found) {
    check(is_integer_in(entry, lo, hi), where_, ": ", key, " must hold integers from ", lo, " to ", hi, ", got ",
          shown_value(entry));
    result.push_back(entry.get<std::int64_t>());
  }
  return result;
}

std::vector<std::string> ObjectReader::texts(const char* key, std::size_t max_length) {
  std::vector<std::string> result;
  for (const auto& entry : array(key, max_length)) {
    check(entry.is_string(), where_, ": ", key, " must hold texts, got ", shown_value(entry));
    result.push_back(entry.get<std::string>());
  }
  return result;
}

const nlohmann::json& ObjectReader::object(const char* key) {
  const auto& found = value(key);
  check(found.is_object(), where_, ": ", key, " must be an object, got ", shown_value(found));
  return found;
}

void ObjectReader::finish() const {
  for (const auto& [key, unused] : object_.items()) {
    check(asked_.contains(key), where_, ": unknown key '", shown(key), "'");
  }
}

void check_schema(ObjectReader& reader, std::string_view schema, int major) {
  const std::string name = reader.text("schema");
  check(name == schema, reader.where(), ": schema must be '", schema, "', got '", shown(name), "'");
  const std::string version = reader.text("version", 64);
  int parts[3] = {};
  const char* at = version.data();
  const char* const end = at + version.size();
  bool valid = true;
  for (int i = 0; i < 3 && valid; ++i) {
    const auto [next, status] = std::from_chars(at, end, parts[i]);
    valid =
        status == std::errc() && parts[i] >= 0 && *at != '-' && (i == 2 ? next == end : next != end && *next == '.');
    at = next + 1;
  }
  check(valid, reader.where(), ": version must look like 1.0.0, got '", shown(version), "'");
  check(parts[0] == major, reader.where(), ": version ", shown(version), " cannot be read, this build reads ", schema,
        " ", major, ".x");
}

}  // namespace cimq::compiler
