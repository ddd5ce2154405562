// JSON text -> value, for text that nobody vouches for. nlohmann's own parser with a callback looks through all earlier
// entries of the parent at the end of every object: time quadratic in their number. This one builds the value itself.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cimq {

struct JsonLimits {
  std::size_t depth = std::size_t{1} << 23U;   ///< objects and arrays within each other; nothing here recurses
  std::size_t values = std::size_t{1} << 23U;  ///< of any kind; each takes 16 to 100 bytes
};

/// Parses `text` in time proportional to its length. `what` begins every message. Throws Error for invalid JSON, a
/// byte order mark (RFC 8259 forbids writing one, and readers that skip it see another text than readers that do not),
/// a number that does not fit, a key given twice, and beyond `limits`.
nlohmann::json parse_json_text(std::string_view text, std::string_view what, const JsonLimits& limits = {});

}  // namespace cimq
