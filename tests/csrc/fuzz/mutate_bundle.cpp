#include "mutate_bundle.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>

namespace cimq::testing {
namespace {

using nlohmann::json;
using Content = std::vector<std::uint8_t>;

class Random {
 public:
  explicit Random(std::uint32_t seed) : random_(seed) {}
  std::size_t below(std::size_t count) { return random_() % count; }
  bool one_in(std::size_t count) { return below(count) == 0; }
  template <typename T>
  const T& of(const std::vector<T>& values) {
    return values[below(values.size())];
  }

 private:
  std::minstd_rand random_;
};

void collect(json& value, std::vector<json*>& found) {
  found.push_back(&value);
  if (value.is_structured()) {
    for (json& child : value) collect(child, found);
  }
}

/// Numbers at which something may turn over.
json odd_number(const json& old, Random& random) {
  static const std::vector<json> fixed = {0,         1,          -1,         2,         3,         255,
                                          256,       65535,      1 << 20,    INT32_MAX, INT32_MIN, INT64_MAX,
                                          INT64_MIN, UINT64_MAX, 4294967296, 1e30,      0.5,       -0.0};
  if (random.one_in(2)) return random.of(fixed);
  if (!old.is_number_integer()) return old.get<double>() * (random.one_in(2) ? -1.0 : 1e20);
  const auto number = static_cast<std::uint64_t>(old.get<std::int64_t>());
  const std::uint64_t step = 1 + random.below(3);
  return static_cast<std::int64_t>(random.one_in(3) ? number * 2 : random.one_in(2) ? number + step : number - step);
}

void change_structure(json& value, const json& other, Random& random) {
  const auto child = [&] { return std::next(value.begin(), static_cast<std::ptrdiff_t>(random.below(value.size()))); };
  if (value.empty()) {
    if (value.is_array()) value.push_back(other);
    return;
  }
  switch (random.below(4)) {
    case 0:
      value.erase(child());
      break;
    case 1: {
      const json copy = *child();
      *child() = copy;
      break;
    }
    case 2:
      if (value.is_array()) std::swap(*child(), *child());
      break;
    default:
      if (value.is_array()) value.insert(child(), other);
  }
}

/// One value changes, or is moved to where another was.
void change(json& document, Random& random) {
  std::vector<json*> values;
  collect(document, values);
  json& value = *values[random.below(values.size())];
  const json other = *values[random.below(values.size())];
  if (random.one_in(8)) {
    value = other;
  } else if (value.is_number()) {
    value = odd_number(value, random);
  } else if (value.is_boolean()) {
    value = !value.get<bool>();
  } else if (value.is_structured()) {
    change_structure(value, other, random);
  } else {
    // A text of the same document: names of nodes, of tensors, of operations change places.
    std::vector<json*> texts;
    std::copy_if(values.begin(), values.end(), std::back_inserter(texts), [](const json* v) { return v->is_string(); });
    if (!texts.empty()) value = *texts[random.below(texts.size())];
  }
}

Content dumped(const json& document) {
  const std::string text = document.dump(-1, ' ', false, json::error_handler_t::replace);
  return {text.begin(), text.end()};
}

bool change_json(Content& content, Random& random) {
  json document = json::parse(content, nullptr, false);
  if (document.is_discarded()) return false;
  change(document, random);
  content = dumped(document);
  return true;
}

bool change_lines(Content& content, Random& random) {
  std::vector<std::string> lines;
  std::istringstream stream(std::string(content.begin(), content.end()));
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  if (lines.empty()) return false;
  const auto place = [&] { return static_cast<std::ptrdiff_t>(random.below(lines.size())); };
  const std::ptrdiff_t at = place();
  switch (random.below(8)) {
    case 0:
      lines.erase(lines.begin() + at);
      break;
    case 1: {
      const std::string copy = lines[random.below(lines.size())];
      lines.insert(lines.begin() + at, copy);
      break;
    }
    case 2:
      std::swap(lines[static_cast<std::size_t>(at)], lines[static_cast<std::size_t>(place())]);
      break;
    default: {
      std::string& line = lines[static_cast<std::size_t>(at)];
      Content text(line.begin(), line.end());
      if (!change_json(text, random)) return false;
      line.assign(text.begin(), text.end());
    }
  }
  content.clear();
  for (const std::string& line : lines) {
    content.insert(content.end(), line.begin(), line.end());
    content.push_back('\n');
  }
  return true;
}

/// The header of a safetensors file, whose length stays right.
bool change_header(Content& content, Random& random) {
  constexpr std::size_t kLength = 8;
  if (content.size() < kLength) return false;
  std::uint64_t size = 0;
  for (std::size_t i = 0; i < kLength; ++i) size |= std::uint64_t{content[i]} << (8 * i);
  if (size > content.size() - kLength) return false;
  const auto begin = content.begin() + kLength;
  const auto end = begin + static_cast<std::ptrdiff_t>(size);
  Content header(begin, end);
  if (!change_json(header, random)) return false;
  Content result;
  for (std::size_t i = 0; i < kLength; ++i) result.push_back(static_cast<std::uint8_t>(header.size() >> (8 * i)));
  result.insert(result.end(), header.begin(), header.end());
  result.insert(result.end(), end, content.end());
  content = std::move(result);
  return true;
}

void change_bytes(Content& content, const MutateBytes& bytes) {
  const std::size_t size = content.size();
  content.resize(size + 16);
  content.resize(bytes(content.data(), size, content.size()));
}

}  // namespace

void mutate_bundle(BundleInput& bundle, std::uint32_t seed, const MutateBytes& bytes) {
  Random random(seed);
  if (bundle.files.empty()) bundle.files[random.of(kFuzzedFiles)] = {'{', '}'};
  for (std::size_t times = 1 + random.below(3); times > 0; --times) {
    const auto file = std::next(bundle.files.begin(), static_cast<std::ptrdiff_t>(random.below(bundle.files.size())));
    Content& content = file->second;
    bool changed = false;
    if (!random.one_in(5)) {
      changed = file->first.ends_with(".safetensors") ? random.one_in(2) && change_header(content, random)
                : file->first.ends_with(".jsonl")     ? change_lines(content, random)
                                                      : change_json(content, random);
    }
    if (!changed) change_bytes(content, bytes);
  }
  if (random.one_in(50)) bundle.files.erase(random.of(kFuzzedFiles));
}

}  // namespace cimq::testing
