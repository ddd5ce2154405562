// The names of activation functions.
#include "kernels/activation.h"

#include <array>
#include <utility>

namespace cimq::kernels {
namespace {

constexpr std::array<std::pair<Activation, std::string_view>, 8> kNames = {{{Activation::kSigmoid, "sigmoid"},
                                                                            {Activation::kSilu, "silu"},
                                                                            {Activation::kHardsigmoid, "hardsigmoid"},
                                                                            {Activation::kHardswish, "hardswish"},
                                                                            {Activation::kTanh, "tanh"},
                                                                            {Activation::kGelu, "gelu"},
                                                                            {Activation::kGeluTanh, "gelu_tanh"},
                                                                            {Activation::kElu, "elu"}}};

}  // namespace

std::optional<Activation> activation_of(std::string_view name) {
  for (const auto& [kind, known] : kNames) {
    if (known == name) return kind;
  }
  return std::nullopt;
}

std::string_view name_of(Activation kind) {
  for (const auto& [known, name] : kNames) {
    if (known == kind) return name;
  }
  return "";
}

}  // namespace cimq::kernels
