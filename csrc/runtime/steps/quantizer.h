// x_q = clamp(rint(x / x_scale) - z): activations as the kernels take them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/ir/graph.h"
#include "kernels/fake_quantize.h"

namespace cimq::runtime {

class Quantizer {
 public:
  /// @param name  of the node, for errors
  Quantizer(const std::string& name, float scale, const compiler::CrossbarLayer& layer);

  /// Raw bits of an unsigned value or of an int8. Throws Error for values that are not finite.
  std::vector<std::uint8_t> operator()(const float* x, std::int64_t count) const;

 private:
  std::string name_;
  float scale_;
  std::int32_t zero_ = 0;
  kernels::QuantRange range_;
};

/// Of an input that crossbars hold: integers of weights.
class OperandQuantizer {
 public:
  /// @param name  of the node, for errors
  OperandQuantizer(const std::string& name, float scale, int weight_bits);

  /// Throws Error for values that are not finite.
  std::vector<std::int8_t> operator()(const float* w, std::int64_t count) const;

 private:
  std::string name_;
  float scale_;
  kernels::QuantRange range_;
};

}  // namespace cimq::runtime
