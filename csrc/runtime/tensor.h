// What goes into the executor and comes out of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cimq::runtime {

/// A float32 array in C order.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> data;
};

/// The result Y of one crossbar layer, before scales and bias: integers where the conversion is exact, else float32.
struct LayerOutput {
  std::string name;  ///< the layer's name in the policy
  std::vector<std::int64_t> shape;
  bool exact = true;
  std::vector<std::int32_t> integers;  ///< if exact
  std::vector<float> floats;           ///< if not
};

/// "[2, 3]", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace cimq::runtime
