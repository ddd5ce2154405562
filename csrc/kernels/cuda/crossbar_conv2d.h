// crossbar_conv2d on a CUDA device: the products of crossbar_mvm.h with the patches of images, which are gathered from
// the images as they are needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/crossbar_conv2d.h"
#include "kernels/cuda/crossbar_mvm.h"

namespace cimq::kernels::cuda {

/// The programmed crossbars of one convolution on `chips` chips. Immutable. Plain C++: nothing of CUDA.
class Conv2dLayer {
 public:
  /// Throws cimq::Error as check_geometry and MvmLayer do.
  explicit Conv2dLayer(const Conv2dProblem& problem, int chips = 1);

  /// The matrices of the groups.
  const MvmLayer& matrices() const { return matrices_; }
  const Conv2dGeometry& geometry() const { return geometry_; }
  /// What the device needs of the layer; to be copied to an address that is a multiple of 16.
  const std::vector<std::byte>& image() const { return matrices_.image(); }

  /// Operands of the kernel. Throws cimq::Error for images that are smaller than the kernel, or too many at once.
  PatchArguments patches(const std::byte* image, const std::uint8_t* x, std::int64_t batch, std::int64_t h,
                         std::int64_t w) const;

 private:
  Conv2dGeometry geometry_;
  MvmLayer matrices_;
  std::size_t taps_;  // offset in the image
};

/// Starts the convolution on `stream`. `image`: the layer's, on the device. x [batch, in_channels, h, w], raw bits
/// within act_bits (values beyond are the caller's to refuse); y [chips, batch, out_channels, out_h, out_w], int32
/// where plan().exact, else float. Throws LaunchError. An empty batch starts nothing.
void crossbar_conv2d(const Conv2dLayer& layer, const std::byte* image, const std::uint8_t* x, std::int64_t batch,
                     std::int64_t h, std::int64_t w, void* y, Stream stream);

}  // namespace cimq::kernels::cuda
