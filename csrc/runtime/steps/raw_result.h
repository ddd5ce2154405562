// Where a step that has a raw result computes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cimq::runtime {

/// To whom asked for it, or to memory of the step's own.
template <typename T>
T* destination(std::vector<T>& own, T* wanted, std::int64_t elements) {
  if (wanted != nullptr) return wanted;
  own.resize(static_cast<std::size_t>(elements));
  return own.data();
}

}  // namespace cimq::runtime
