// Errors of the torch-free code. Every message names the operation or key, what must hold, and what it got.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace cimq {

/// Bad input or an impossible request. Becomes ValueError in Python.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Joins its arguments into one message.
/// Example: `message("rows must be positive, got ", rows)`.
template <typename... Parts>
std::string message(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws Error with the joined `parts` unless `condition` holds.
template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) throw Error(message(parts...));
}

}  // namespace cimq
