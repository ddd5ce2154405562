// Products of integers that a library computes must prove to be exact. A library chooses among its kernels by shapes,
// types and settings, and not all of them are right on every processor: oneDNN's convolutions of bytes saturate where
// it uses no VNNI, and for some narrow images on processors with AMX read memory beyond their operands. So the first
// product of every geometry is tried on integers that would show this, and compared with cimq's own kernels; where it
// fails, those compute the product.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace cimq::ops {

/// Products that are tried, and whose results tests can disturb.
enum class Primitive { kInt8Conv2d, kFloatConv2d, kFloatMatmul };

/// "int8_conv2d", "float_conv2d", "float_matmul"; nothing for another name.
std::optional<Primitive> primitive_of(std::string_view name);

/// Everything that a library can choose a kernel by, as text: what is remembered, and what a notice shows. Number of
/// threads and settings of torch are added by itself.
class ProductGeometry {
 public:
  explicit ProductGeometry(Primitive primitive);
  ProductGeometry& add(std::string_view name, at::IntArrayRef values);
  ProductGeometry& add(std::string_view name, std::int64_t value);
  Primitive primitive() const { return primitive_; }
  const std::string& shapes() const { return shapes_; }
  std::string key() const;

 private:
  Primitive primitive_;
  std::string shapes_;
};

/// What a trial found wrong, or nothing.
using Fault = std::optional<std::string>;

/// Whether a product of this geometry is exact: asks `trial` at the first use, and remembers the answer. What a trial
/// throws counts as a fault. The first fault of a primitive is said (notices.h). Thread-safe; one trial at a time.
bool proven(const ProductGeometry& geometry, const std::function<Fault()>& trial);

/// For tests: results of `primitive` become wrong from now on. What was found out before is forgotten.
enum class Disturbance {
  kNone,
  kSum,      ///< one sum is off by one unit
  kOutside,  ///< one sum depends on the memory behind the input
};
void disturb(Primitive primitive, Disturbance disturbance);

/// Called with every result of a library's product: what `disturb` asks for. `unit()` is the value of a sum of one.
void apply_disturbance(Primitive primitive, const at::Tensor& x, at::Tensor& y, const std::function<double()>& unit);

}  // namespace cimq::ops
