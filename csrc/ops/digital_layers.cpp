// cimq::digital_conv2d and cimq::digital_matmul: layers of the evaluation on machines that lose nothing, as one product
// of their integers. Called where gradients are off; cimq.quantization.layers.products decides.
#include <torch/library.h>

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(
      "digital_conv2d(Tensor x, Tensor w, int weight_bits, int act_bits, bool act_signed, int[] stride, int[] padding, "
      "int[] dilation, int groups) -> Tensor");
  m.def("digital_matmul(Tensor x, Tensor w, int weight_bits, int act_bits, bool act_signed) -> Tensor");
}
