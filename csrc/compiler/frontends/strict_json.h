// Strict reading of JSON from files that nobody vouches for: every access checks presence, type and range, and every
// message says where in the file the value stands.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace cimq::compiler {

/// Parses `text` as common/json_text.h does; `what` begins every message. Nesting deeper than 32 levels is refused
/// (cimq's own files need 6).
nlohmann::json parse_strict(std::string_view text, std::string_view what);

/// Text from a file, shortened and with control characters escaped, so that it can stand in a message.
std::string shown(std::string_view text);

/// One JSON object. `where` is its place in the file ("layers.json: node 'conv1'").
class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& object, std::string where);

  const std::string& where() const { return where_; }
  bool has(const char* key) const { return object_.contains(key); }
  /// Present and not null.
  bool given(const char* key) const { return has(key) && !object_.at(key).is_null(); }

  bool is_text(const char* key) const { return has(key) && object_.at(key).is_string(); }
  bool is_array(const char* key) const { return has(key) && object_.at(key).is_array(); }

  std::string text(const char* key, std::size_t max_length = 1024);
  std::int64_t integer(const char* key, std::int64_t lo, std::int64_t hi);
  double number(const char* key);
  bool boolean(const char* key);
  const nlohmann::json& array(const char* key, std::size_t max_length);
  /// An array of integers in [lo, hi]; `length` < 0 accepts any length up to 64.
  std::vector<std::int64_t> integers(const char* key, std::int64_t lo, std::int64_t hi, int length = -1);
  std::vector<std::string> texts(const char* key, std::size_t max_length);
  const nlohmann::json& object(const char* key);

  /// Throws Error for a key that none of the calls above asked for.
  void finish() const;

 private:
  const nlohmann::json& value(const char* key);

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> asked_;
};

/// Checks `schema` and the semantic `version` of a file: the name must be `schema`, the major version `major`.
/// A higher minor version is accepted: what an older reader must not ignore is named in required_extensions.
void check_schema(ObjectReader& reader, std::string_view schema, int major);

}  // namespace cimq::compiler
