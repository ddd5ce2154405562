// The intermediate values of one run: made when their node runs, given back to the system after their last use.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace cimq::runtime {

class LiveValues {
 public:
  explicit LiveValues(std::size_t nodes) : values_(nodes) {}

  /// Memory for the result of `node`, which its step writes before anything reads it.
  float* make(std::size_t node, std::size_t elements) {
    values_[node] = {std::make_unique_for_overwrite<float[]>(elements), elements};
    bytes_ += elements * sizeof(float);
    peak_bytes_ = std::max(peak_bytes_, bytes_);
    return values_[node].data.get();
  }
  const float* at(std::size_t node) const { return values_[node].data.get(); }
  void free(std::size_t node) {
    bytes_ -= values_[node].elements * sizeof(float);
    values_[node] = {};
  }

  std::uint64_t bytes() const { return bytes_; }            ///< alive now
  std::uint64_t peak_bytes() const { return peak_bytes_; }  ///< most that was alive at once

 private:
  struct Value {
    // Not a vector: one that is assigned {} keeps its memory, and a new one is filled for nothing.
    std::unique_ptr<float[]> data;
    std::size_t elements = 0;
  };

  std::vector<Value> values_;
  std::uint64_t bytes_ = 0;
  std::uint64_t peak_bytes_ = 0;
};

}  // namespace cimq::runtime
