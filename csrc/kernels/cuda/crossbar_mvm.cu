// The crossbar product on int8 tensor cores. The kernel is mvm_block.h.
#include "kernels/cuda/mvm_launch.h"

namespace cimq::kernels::cuda {

void crossbar_mvm(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t batch, void* y,
                  const Accesses& accesses, Stream stream) {
  check(batch >= 0, "crossbar_mvm: batch must be at least 0, got ", batch);
  if (batch == 0) return;
  const MvmArguments arguments = layer.arguments(image, batch, y, accesses);
  const Work work = {
      "crossbar_mvm",
      "",
      {{{"batch", batch}, {"inputs", arguments.inputs}, {"outputs", arguments.outputs}, {"chips", image.chips}}}};
  launch_product(work, layer, image.chips, arguments, layer.matrix(x), stream);
}

}  // namespace cimq::kernels::cuda
