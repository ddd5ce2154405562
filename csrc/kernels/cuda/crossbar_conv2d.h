// crossbar_conv2d on a CUDA device: the products of crossbar_mvm.h with the patches of images, which are gathered from
// the images as they are needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/crossbar_conv2d.h"
#include "kernels/cuda/crossbar_mvm.h"

namespace cimq::kernels::cuda {

/// The crossbars of one convolution. Immutable. Plain C++: nothing of CUDA.
class Conv2dLayer {
 public:
  /// Throws cimq::Error as check_geometry and MvmLayer do; `chips` and `programming` are as there.
  explicit Conv2dLayer(const Conv2dProblem& problem, int chips = 1, Programming programming = Programming::kOnHost);

  /// The matrices of the groups.
  const MvmLayer& matrices() const { return matrices_; }
  const Conv2dGeometry& geometry() const { return geometry_; }

  /// Operands of the kernel; `constants`: those of matrices() on the device. Throws cimq::Error for images that are
  /// smaller than the kernel, or too many at once.
  PatchArguments patches(const std::byte* constants, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                         std::int64_t w) const;

 private:
  Conv2dGeometry geometry_;
  MvmLayer matrices_;
  std::size_t taps_;  // offset in the constants
};

/// Starts the convolution on `stream`. x [batch, in_channels, h, w], raw bits
/// within act_bits (values beyond are the caller's to refuse); y [chips, batch, out_channels, out_h, out_w], int32
/// where plan().exact, else float. Throws LaunchError. An empty batch starts nothing.
void crossbar_conv2d(const Conv2dLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t batch,
                     std::int64_t h, std::int64_t w, void* y, const Accesses& accesses, Stream stream);

}  // namespace cimq::kernels::cuda
