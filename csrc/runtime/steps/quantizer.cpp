#include "runtime/steps/quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "common/error.h"
#include "common/mapping.h"
#include "compiler/frontends/strict_json.h"
#include "kernels/fake_quantize.h"

namespace cimq::runtime {
namespace {

[[noreturn]] void refuse_infinite(const std::string& node, const char* what, const float* x, std::int64_t count) {
  const auto* value = std::find_if(x, x + count, [](float one) { return !std::isfinite(one); });
  throw Error(message("node '", node, "': its ", what, " must be finite, got ", *value, " at element ", value - x));
}

}  // namespace

Quantizer::Quantizer(const std::string& name, float scale, const compiler::CrossbarLayer& layer)
    : name_(compiler::shown(name)), scale_(scale), zero_(layer.act_zero) {
  // The zero point is subtracted after the clamp, whose bounds are moved by it instead.
  const IntegerRange range = activation_range(layer.act_bits, layer.act_signed);
  range_ = {static_cast<int>(range.lo) + zero_, static_cast<int>(range.hi) + zero_, false};
}

std::vector<std::uint8_t> Quantizer::operator()(const float* x, std::int64_t count) const {
  std::vector<std::uint8_t> result(static_cast<std::size_t>(count));
  if (!kernels::cpu::quantize(x, count, scale_, range_, result.data(), -zero_)) {
    refuse_infinite(name_, "input", x, count);
  }
  return result;
}

OperandQuantizer::OperandQuantizer(const std::string& name, float scale, int weight_bits)
    : name_(compiler::shown(name)), scale_(scale) {
  const IntegerRange range = weight_range(weight_bits);
  range_ = {static_cast<int>(range.lo), static_cast<int>(range.hi), weight_bits == 1};
}

std::vector<std::int8_t> OperandQuantizer::operator()(const float* w, std::int64_t count) const {
  std::vector<std::int8_t> result(static_cast<std::size_t>(count));
  if (!kernels::cpu::quantize(w, count, scale_, range_, result.data()))
    refuse_infinite(name_, "second input", w, count);
  return result;
}

}  // namespace cimq::runtime
