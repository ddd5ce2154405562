// cimq::_disturb: for tests, makes the products of a library wrong (support/proof.h).
#include <torch/library.h>

#include <array>
#include <utility>

#include "ops/support/proof.h"

namespace cimq::ops {
namespace {

constexpr std::array<std::pair<const char*, Disturbance>, 3> kDisturbances{
    {{"none", Disturbance::kNone}, {"sum", Disturbance::kSum}, {"outside", Disturbance::kOutside}}};

void disturb_by_name(c10::string_view primitive, c10::string_view disturbance) {
  const auto found = primitive_of({primitive.data(), primitive.size()});
  TORCH_CHECK_VALUE(found.has_value(), "_disturb: primitive must be int8_conv2d, float_conv2d or float_matmul, got ",
                    primitive);
  for (const auto& [name, value] : kDisturbances) {
    if (disturbance == name) return disturb(*found, value);
  }
  TORCH_CHECK_VALUE(false, "_disturb: disturbance must be none, sum or outside, got ", disturbance);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("_disturb(str primitive, str disturbance) -> ()", TORCH_FN(cimq::ops::disturb_by_name));
}
