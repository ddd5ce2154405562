#include "runtime/steps/quantizer.h"

#include <cmath>
#include <cstddef>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::runtime {

Quantizer::Quantizer(const std::string& name, float scale, const compiler::CrossbarLayer& layer)
    : name_(compiler::shown(name)), scale_(scale), zero_(layer.act_zero) {
  // The zero point is subtracted after the clamp, whose bounds are moved by it instead.
  const IntegerRange range = activation_range(layer.act_bits, layer.act_signed);
  lo_ = static_cast<float>(range.lo + zero_);
  hi_ = static_cast<float>(range.hi + zero_);
}

std::vector<std::uint8_t> Quantizer::operator()(const float* x, std::int64_t count) const {
  std::vector<std::uint8_t> result(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    check(std::isfinite(x[i]), "node '", name_, "': its input must be finite, got ", x[i], " at element ", i);
    const auto value = static_cast<std::int32_t>(quantize_value(x[i], scale_, lo_, hi_)) - zero_;
    result[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(value & 0xff);
  }
  return result;
}

}  // namespace cimq::runtime
