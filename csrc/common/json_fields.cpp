#include "common/json_fields.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/json_text.h"
#include "common/printable.h"

namespace cimq {
namespace {

constexpr std::size_t kMaxShown = 60;
constexpr std::size_t kMinPrefix = 4;

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string number_text(double value) { return nlohmann::json(value).dump(); }

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

nlohmann::json parse_json(std::string_view text, std::string_view what) { return parse_json_text(text, what); }

std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates) {
  // Long words would cost time without meaning anything.
  if (word.size() > kMaxShown) return "";
  // A unit left out of a name (mvm_time for mvm_time_us) is further away in edits than it is in meaning.
  for (const std::string& candidate : candidates) {
    if (word.size() >= kMinPrefix && candidate.starts_with(word)) return candidate;
  }
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string shown(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return printable(text, kMaxShown);
}

FieldReader::FieldReader(const nlohmann::json& object, std::string what, std::string path)
    : object_(object), what_(std::move(what)), path_(std::move(path)) {
  if (object_.is_object()) return;
  const std::string place = path_.empty() ? "the top level" : path_.substr(0, path_.size() - 1);
  throw Error(message(what_, ": ", place, " must be an object with keys, got ", shown(object_)));
}

const nlohmann::json* FieldReader::find(const char* key) {
  keys_.emplace_back(key);
  paths_.push_back(path_ + key);
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &*found;
}

void FieldReader::fail(const char* key, const std::string& allowed, const nlohmann::json& value) const {
  throw Error(message(what_, ": ", path_, key, " must be ", allowed, ", got ", shown(value)));
}

void FieldReader::fail_choice(const char* key, const nlohmann::json& value,
                              const std::vector<std::string>& allowed) const {
  const std::string near = value.is_string() ? nearest_word(value.get_ref<const std::string&>(), allowed) : "";
  const std::string hint = near.empty() ? "" : " (did you mean \"" + near + "\"?)";
  throw Error(message(what_, ": ", path_, key, " must be one of ", joined(allowed), ", got ", shown(value), hint));
}

void FieldReader::require_known(const std::string& name, const std::vector<std::string>& known,
                                const std::string& path) const {
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  const std::string near = nearest_word(name, known);
  const std::string hint = near.empty() ? "" : " (did you mean '" + near + "'?)";
  const std::string key = shown(path);
  throw Error(
      message(what_, ": unknown key '", key.substr(1, key.size() - 2), "'", hint, "; allowed: ", joined(known)));
}

void FieldReader::finish() const {
  for (const auto& [name, value] : object_.items()) require_known(name, keys_, path_ + name);
}

void FieldReader::text(const char* key, std::string& field, std::size_t max_length) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  if (!value->is_string() || value->get_ref<const std::string&>().empty() ||
      value->get_ref<const std::string&>().size() > max_length) {
    fail(key, message("a text of 1 to ", max_length, " bytes"), *value);
  }
  field = value->get<std::string>();
}

void FieldReader::boolean(const char* key, bool& field) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  if (!value->is_boolean()) fail(key, "true or false", *value);
  field = value->get<bool>();
}

std::optional<std::int64_t> FieldReader::read_integer(const char* key, const nlohmann::json& value, std::int64_t lo,
                                                      std::int64_t hi, bool nullable) const {
  if (nullable && value.is_null()) return std::nullopt;
  const bool fits =
      value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  if (!fits || value.get<std::int64_t>() < lo || value.get<std::int64_t>() > hi) {
    fail(key, message("an integer from ", lo, " to ", hi, nullable ? " or null" : ""), value);
  }
  return value.get<std::int64_t>();
}

void FieldReader::integer(const char* key, int& field, int lo, int hi) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  if (const auto read = read_integer(key, *value, lo, hi, false)) field = static_cast<int>(*read);
}

void FieldReader::integer(const char* key, std::optional<int>& field, int lo, int hi) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  const auto read = read_integer(key, *value, lo, hi, true);
  field = read ? std::optional<int>(static_cast<int>(*read)) : std::nullopt;
}

void FieldReader::integer(const char* key, std::optional<std::int64_t>& field, std::int64_t lo, std::int64_t hi) {
  if (const nlohmann::json* value = find(key)) field = read_integer(key, *value, lo, hi, true);
}

std::optional<double> FieldReader::read_number(const char* key, const nlohmann::json& value, double lo, double hi,
                                               bool nullable) const {
  if (nullable && value.is_null()) return std::nullopt;
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (!(number >= lo && number <= hi)) {
    fail(key, message("a number from ", number_text(lo), " to ", number_text(hi), nullable ? " or null" : ""), value);
  }
  return number;
}

void FieldReader::number(const char* key, double& field, double lo, double hi) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  if (const auto read = read_number(key, *value, lo, hi, false)) field = *read;
}

void FieldReader::number(const char* key, std::optional<double>& field, double lo, double hi) {
  if (const nlohmann::json* value = find(key)) field = read_number(key, *value, lo, hi, true);
}

void FieldReader::numbers(const char* key, std::optional<std::vector<double>>& field, double lo, double hi,
                          std::size_t max_count) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return;
  if (value->is_null()) {
    field = std::nullopt;
    return;
  }
  if (!value->is_array() || value->empty() || value->size() > max_count) {
    const std::string got = value->is_array() ? message("a list of ", value->size()) : shown(*value);
    throw Error(message(what_, ": ", path_, key, " must be a list of 1 to ", max_count, " numbers or null, got ", got));
  }
  std::vector<double> read;
  for (std::size_t j = 0; j < value->size(); ++j) {
    const std::string place = message(key, "[", j, "]");
    read.push_back(read_number(place.c_str(), (*value)[j], lo, hi, false).value_or(0.0));
  }
  field = std::move(read);
}

}  // namespace cimq
