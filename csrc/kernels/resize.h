// Images of another size, with one definition for training's evaluation, conversion and the executor.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "kernels/cuda/stream.h"
#include "kernels/formula/resize.h"

namespace cimq::kernels {

enum class ResizeMode { kNearest, kBilinear };

/// "nearest", "bilinear"; nothing for another name.
inline std::optional<ResizeMode> resize_mode_of(std::string_view name) {
  if (name == "nearest") return ResizeMode::kNearest;
  if (name == "bilinear") return ResizeMode::kBilinear;
  return std::nullopt;
}

struct Resize2d {
  ResizeMode mode = ResizeMode::kNearest;
  std::int64_t out_h = 1, out_w = 1;
  float step_h = 1.0F, step_w = 1.0F;  ///< source rows and columns per row and column of the result
  bool align_corners = false;          ///< bilinear: the outer pixels' centres fall on each other; steps are not used
};

/// Throws cimq::Error for impossible sizes and steps.
void check_resize2d(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& resize);

namespace cpu {

/// x [n, c, h, w] -> y [n, c, out_h, out_w]. Nearest copies the element of `nearest_source`. Bilinear, in float32, each
/// operation rounded once: a row is x[first] * first_weight + x[second] * second_weight, the result is the upper row
/// times its weight plus the lower row times its weight (`linear_source`).
/// Throws cimq::Error for impossible sizes and steps.
void resize2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& resize,
              float* y);

}  // namespace cpu

namespace cuda {

/// The same bits on the device that is current. Also throws LaunchError.
void resize2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& resize,
              float* y, Stream stream);

}  // namespace cuda
}  // namespace cimq::kernels
