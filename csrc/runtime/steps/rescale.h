// From the crossbar product to the layer's result: y = float32(Y + z * sum(weights of o)) * multiplier[o] + bias[o].
#pragma once

#include <cstdint>
#include <vector>

#include "compiler/ir/graph.h"

namespace cimq::runtime {

class Rescale {
 public:
  /// @param zero    zero point z of the input
  /// @param weight  [outputs, inputs]; looked at where there is a zero point
  /// @param multiplier, bias  [outputs]
  /// Throws Error where z * sum(weights) does not fit int32.
  Rescale(int zero, const std::vector<std::int8_t>& weight, std::vector<float> multiplier, std::vector<float> bias);

  /// y and out [rows, outputs, inner]. Each operation is rounded once; the sum with the correction is exact where Y is
  /// an integer.
  template <typename T>
  void operator()(const T* y, std::int64_t rows, std::int64_t inner, float* out) const {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::size_t o = 0; o < multiplier_.size(); ++o) {
        for (std::int64_t i = 0; i < inner; ++i) {
          const float scaled = static_cast<float>(corrected(*y++, o)) * multiplier_[o];
          *out++ = scaled + bias_[o];
        }
      }
    }
  }
  std::int64_t outputs() const { return static_cast<std::int64_t>(multiplier_.size()); }

 private:
  /// Y and the correction fit int32, codes of a lossy converter and the correction need not.
  std::int64_t corrected(std::int32_t y, std::size_t o) const {
    return corrections_.empty() ? y : std::int64_t{y} + corrections_[o];
  }
  float corrected(float y, std::size_t o) const {
    return corrections_.empty() ? y : y + static_cast<float>(corrections_[o]);
  }

  std::vector<std::int32_t> corrections_;  // z * sum of the weights of every output; empty without a zero point
  std::vector<float> multiplier_, bias_;
};

/// Where crossbars hold an input: y = float32(Y + z * sum(w of o)) * multiplier, one multiplier for all outputs.
class OperandRescale {
 public:
  /// Throws Error where z * sum(w) might not fit int32.
  OperandRescale(const compiler::CrossbarLayer& layer, float multiplier);

  /// y and out [rows, outputs]; w [outputs, inputs], the integers that crossbars hold.
  template <typename T>
  void operator()(const T* y, const std::int8_t* w, std::int64_t rows, float* out) const {
    const std::vector<std::int32_t> corrections = corrections_of(w);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t o = 0; o < outputs_; ++o) {
        *out++ = corrected(*y++, corrections.empty() ? 0 : corrections[static_cast<std::size_t>(o)]) * multiplier_;
      }
    }
  }

 private:
  static float corrected(std::int32_t y, std::int32_t correction) {
    return static_cast<float>(std::int64_t{y} + correction);
  }
  static float corrected(float y, std::int32_t correction) { return y + static_cast<float>(correction); }
  std::vector<std::int32_t> corrections_of(const std::int8_t* w) const;

  std::int64_t zero_, outputs_, inputs_;
  float multiplier_;
};

}  // namespace cimq::runtime
