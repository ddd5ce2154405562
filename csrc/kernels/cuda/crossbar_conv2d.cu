// The convolution on int8 tensor cores. The kernel is mvm_block.h, with patches in place of rows.
#include "kernels/cuda/crossbar_conv2d.h"
#include "kernels/cuda/mvm_launch.h"

namespace cimq::kernels::cuda {

void crossbar_conv2d(const Conv2dLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t batch,
                     std::int64_t h, std::int64_t w, void* y, const Accesses& accesses, Stream stream) {
  const PatchArguments patches = layer.patches(image.constants, x, batch, h, w);
  if (batch == 0) return;
  const MvmLayer& matrices = layer.matrices();
  const MvmArguments arguments = matrices.arguments(image, batch * patches.positions, y, accesses);
  const Work work = {"crossbar_conv2d",
                     "",
                     {{{"batch", batch},
                       {"height", h},
                       {"width", w},
                       {"inputs", arguments.inputs},
                       {"out_channels", layer.geometry().out_channels},
                       {"chips", image.chips}}}};
  launch_product(work, matrices, image.chips, arguments, patches, stream);
}

}  // namespace cimq::kernels::cuda
