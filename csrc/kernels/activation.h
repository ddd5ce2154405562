// Activation functions of float32 values, with one definition for training's evaluation, conversion and the executor.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/cuda/stream.h"
#include "kernels/formula/activation.h"

namespace cimq::kernels {

/// "sigmoid", "silu", "hardsigmoid", "hardswish", "tanh", "gelu", "gelu_tanh", "elu"; nothing for another name.
std::optional<Activation> activation_of(std::string_view name);
std::string_view name_of(Activation kind);

namespace cpu {

/// y[i] = activate(kind, x[i], alpha) for i < count. x and y may be the same array.
void activation(Activation kind, const float* x, std::int64_t count, float* y, float alpha = 1.0F);

}  // namespace cpu

namespace cuda {

/// The same bits on the device that is current; returns before the work is done. Throws LaunchError.
void activation(Activation kind, const float* x, std::int64_t count, float* y, float alpha, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
