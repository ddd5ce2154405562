#include "runtime/steps/rescale.h"

#include <cstddef>
#include <utility>

#include "common/error.h"

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

}  // namespace cimq::runtime
