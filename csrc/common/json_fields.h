// Strict reading and ordered writing of JSON objects through one description of their fields: a function that visits
// the fields with a FieldReader fills a struct, with a FieldWriter it makes the JSON. Unknown keys are errors.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace cimq {

/// Parses `text`; `what` begins every message. Throws Error for invalid JSON, a number that does not fit, or a key
/// given twice.
nlohmann::json parse_json(std::string_view text, std::string_view what);

/// The candidate nearest to `word` in edit distance, or empty if none is near enough to suggest.
std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

/// `value` as a short piece of an error message: scalars as JSON, containers by their kind.
std::string shown(const nlohmann::json& value);

/// Reads the fields of one JSON object. Missing keys leave the field as it is.
class FieldReader {
 public:
  /// `what` begins every message ("hardware"), `path` is the dotted prefix of the keys ("adc.").
  FieldReader(const nlohmann::json& object, std::string what, std::string path = "");

  void text(const char* key, std::string& field, std::size_t max_length);
  void boolean(const char* key, bool& field);
  void integer(const char* key, int& field, int lo, int hi);
  void integer(const char* key, std::optional<int>& field, int lo, int hi);
  void integer(const char* key, std::optional<std::int64_t>& field, std::int64_t lo, std::int64_t hi);
  void number(const char* key, double& field, double lo, double hi);
  void number(const char* key, std::optional<double>& field, double lo, double hi);
  /// A number that came to the schema later: written where it is given only, so that texts without it stay the same.
  void number_if_given(const char* key, std::optional<double>& field, double lo, double hi) {
    number(key, field, lo, hi);
  }
  /// A list of 1 to `max_count` numbers, or null.
  void numbers(const char* key, std::optional<std::vector<double>>& field, double lo, double hi, std::size_t max_count);

  /// Fields of an enum, or of a string with fixed values. `names` maps value to text.
  template <typename Value, typename Names>
  void choice(const char* key, Value& field, const Names& names) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return;
    std::vector<std::string> allowed;
    for (const auto& [candidate, name] : names) {
      if (value->is_string() && value->get_ref<const std::string&>() == name) {
        field = candidate;
        return;
      }
      allowed.emplace_back(name);
    }
    fail_choice(key, *value, allowed);
  }

  /// A nested object; with `nullable`, null stands for its defaults (`describe` then sees an empty object).
  template <typename Describe>
  void group(const char* key, bool nullable, Describe describe) {
    const nlohmann::json* value = find(key);
    if (value == nullptr || (nullable && value->is_null())) {
      known_paths_group(key, describe);
      return;
    }
    FieldReader inner(*value, what_, path_ + key + ".");
    describe(inner);
    inner.finish();
    adopt_paths(inner);
  }

  /// Key -> text for any of the dotted paths visited so far.
  template <typename Map>
  void texts_by_path(const char* key, Map& field) {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return;
    check(value->is_object(), what_, ": ", path_, key, " must be an object of field -> text, got ", shown(*value));
    field.clear();
    for (const auto& [name, entry] : value->items()) {
      require_known(name, paths_, path_ + key + "." + name);
      check(entry.is_string(), what_, ": ", path_, key, ".", name, " must be a text, got ", shown(entry));
      field[name] = entry.template get<std::string>();
    }
  }

  /// Throws for keys that no call asked for.
  void finish() const;

 private:
  const nlohmann::json* find(const char* key);
  [[noreturn]] void fail(const char* key, const std::string& allowed, const nlohmann::json& value) const;
  [[noreturn]] void fail_choice(const char* key, const nlohmann::json& value,
                                const std::vector<std::string>& allowed) const;
  void require_known(const std::string& name, const std::vector<std::string>& known, const std::string& path) const;
  void adopt_paths(const FieldReader& inner) { paths_.insert(paths_.end(), inner.paths_.begin(), inner.paths_.end()); }
  template <typename Describe>
  void known_paths_group(const char* key, Describe describe) {
    static const nlohmann::json kEmpty = nlohmann::json::object();
    FieldReader inner(kEmpty, what_, path_ + key + ".");
    describe(inner);
    adopt_paths(inner);
  }
  std::optional<std::int64_t> read_integer(const char* key, const nlohmann::json& value, std::int64_t lo,
                                           std::int64_t hi, bool nullable) const;
  std::optional<double> read_number(const char* key, const nlohmann::json& value, double lo, double hi,
                                    bool nullable) const;

  const nlohmann::json& object_;
  std::string what_, path_;
  std::vector<std::string> keys_, paths_;
};

/// Writes the fields visited, in order.
class FieldWriter {
 public:
  void text(const char* key, const std::string& field, std::size_t) { object_[key] = field; }
  void boolean(const char* key, bool field) { object_[key] = field; }
  template <typename T>
  void integer(const char* key, const T& field, std::int64_t, std::int64_t) {
    put(key, field);
  }
  template <typename T>
  void number(const char* key, const T& field, double, double) {
    put(key, field);
  }
  void number_if_given(const char* key, const std::optional<double>& field, double, double) {
    if (field) object_[key] = *field;
  }
  void numbers(const char* key, const std::optional<std::vector<double>>& field, double, double, std::size_t) {
    put(key, field);
  }
  template <typename Value, typename Names>
  void choice(const char* key, const Value& field, const Names& names) {
    for (const auto& [candidate, name] : names) {
      if (candidate == field) object_[key] = name;
    }
  }
  template <typename Describe>
  void group(const char* key, bool, Describe describe) {
    FieldWriter inner;
    describe(inner);
    object_[key] = std::move(inner.object_);
  }
  template <typename Map>
  void texts_by_path(const char* key, const Map& field) {
    object_[key] = nlohmann::ordered_json::object();
    for (const auto& [name, entry] : field) object_[key][name] = entry;
  }
  const nlohmann::ordered_json& json() const { return object_; }

 private:
  template <typename T>
  void put(const char* key, const T& field) {
    object_[key] = field;
  }
  template <typename T>
  void put(const char* key, const std::optional<T>& field) {
    if (field) {
      object_[key] = *field;
    } else {
      object_[key] = nullptr;
    }
  }

  nlohmann::ordered_json object_ = nlohmann::ordered_json::object();
};

}  // namespace cimq
