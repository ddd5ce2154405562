#include "runtime/steps/rescale.h"

#include <cstddef>
#include <utility>

#include "common/error.h"
#include "common/mapping.h"

namespace cimq::runtime {
namespace {

std::vector<std::int32_t> corrections_of(std::int64_t zero, const std::vector<std::int8_t>& weight,
                                         std::size_t outputs) {
  if (zero == 0) return {};
  std::vector<std::int32_t> corrections;
  const std::size_t inputs = weight.size() / outputs;
  corrections.reserve(outputs);
  for (std::size_t o = 0; o < outputs; ++o) {
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < inputs; ++k) sum += weight[o * inputs + k];
    const std::int64_t correction = zero * sum;
    check(correction >= INT32_MIN && correction <= INT32_MAX, "act_zero times the sum of the weights of output ", o,
          " must fit int32, but is ", correction);
    corrections.push_back(static_cast<std::int32_t>(correction));
  }
  return corrections;
}

}  // namespace

Rescale::Rescale(int zero, const std::vector<std::int8_t>& weight, std::vector<float> multiplier,
                 std::vector<float> bias)
    : corrections_(corrections_of(zero, weight, multiplier.size())),
      multiplier_(std::move(multiplier)),
      bias_(std::move(bias)) {}

OperandRescale::OperandRescale(const compiler::CrossbarLayer& layer, float multiplier)
    : zero_(layer.act_zero), outputs_(layer.outputs), inputs_(layer.inputs_per_output), multiplier_(multiplier) {
  const std::int64_t largest = -zero_ * inputs_ * largest_weight(layer.weight_bits);
  check(largest <= INT32_MAX, "act_zero times the sum of ", inputs_, " integers of ", layer.weight_bits,
        " bits must fit int32, but can be ", largest);
}

std::vector<std::int32_t> OperandRescale::corrections_of(const std::int8_t* w) const {
  if (zero_ == 0) return {};
  std::vector<std::int32_t> corrections;
  corrections.reserve(static_cast<std::size_t>(outputs_));
  for (std::int64_t o = 0; o < outputs_; ++o) {
    std::int64_t sum = 0;
    for (std::int64_t k = 0; k < inputs_; ++k) sum += *w++;
    corrections.push_back(static_cast<std::int32_t>(zero_ * sum));
  }
  return corrections;
}

}  // namespace cimq::runtime
