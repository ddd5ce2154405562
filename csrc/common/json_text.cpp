#include "common/json_text.h"

#include <utility>
#include <vector>

#include "common/error.h"
#include "common/printable.h"

namespace cimq {
namespace {

using nlohmann::json;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::size_t kMaxShown = 80;

/// Builds the value from the parser's events; every event costs the same.
class Builder final : public nlohmann::json_sax<json> {
 public:
  Builder(std::string_view what, const JsonLimits& limits) : what_(what), limits_(limits) {}

  json take() { return std::move(root_); }

  bool null() override { return leaf(nullptr); }
  bool boolean(bool value) override { return leaf(value); }
  bool number_integer(number_integer_t value) override { return leaf(value); }
  bool number_unsigned(number_unsigned_t value) override { return leaf(value); }
  bool number_float(number_float_t value, const string_t&) override { return leaf(value); }
  bool string(string_t& value) override { return leaf(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [place, first] = open_.back()->get_ref<json::object_t&>().emplace(name, nullptr);
    check(first, what_, ": the key '", printable(name, kMaxShown), "' is given twice");
    value_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string reason = error.what();
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    throw Error(message(what_, ": not valid JSON: ", printable(reason, 2 * kMaxShown)));
  }

 private:
  /// Where the next value goes: the last key's place, the end of the open array, or the root.
  json& put(json value) {
    check(++values_ <= limits_.values, what_, ": holds more than ", limits_.values, " JSON values");
    if (open_.empty()) {
      root_ = std::move(value);
      return root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->get_ref<json::array_t&>().push_back(std::move(value));
      return open_.back()->back();
    }
    *value_ = std::move(value);
    return *value_;
  }

  bool leaf(json value) {
    put(std::move(value));
    return true;
  }

  bool open(json value) {
    check(open_.size() < limits_.depth, what_, ": JSON nested deeper than ", limits_.depth, " levels");
    open_.push_back(&put(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view what_;
  JsonLimits limits_;
  json root_;
  std::vector<json*> open_;  // a value stays where it is while something within it is open
  json* value_ = nullptr;    // of the last key
  std::size_t values_ = 0;
};

}  // namespace

nlohmann::json parse_json_text(std::string_view text, std::string_view what, const JsonLimits& limits) {
  check(!text.starts_with(kByteOrderMark), what, ": not valid JSON: begins with a byte order mark");
  Builder builder(what, limits);
  try {
    json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const json::exception& error) {
    throw Error(message(what, ": not valid JSON: ", printable(error.what(), 2 * kMaxShown)));
  }
  return builder.take();
}

}  // namespace cimq
