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

template <Activation kKind>
void apply(const float* x, std::int64_t count, float* y, float alpha) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = activate(kKind, x[i], alpha);
}

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

void activation(Activation kind, const float* x, std::int64_t count, float* y, float alpha) {
  switch (kind) {
    case Activation::kSigmoid:
      return apply<Activation::kSigmoid>(x, count, y, alpha);
    case Activation::kSilu:
      return apply<Activation::kSilu>(x, count, y, alpha);
    case Activation::kHardsigmoid:
      return apply<Activation::kHardsigmoid>(x, count, y, alpha);
    case Activation::kHardswish:
      return apply<Activation::kHardswish>(x, count, y, alpha);
    case Activation::kTanh:
      return apply<Activation::kTanh>(x, count, y, alpha);
    case Activation::kGelu:
      return apply<Activation::kGelu>(x, count, y, alpha);
    case Activation::kGeluTanh:
      return apply<Activation::kGeluTanh>(x, count, y, alpha);
    case Activation::kElu:
      return apply<Activation::kElu>(x, count, y, alpha);
  }
}

}  // namespace cimq::kernels
