// cimq::crossbar_conv2d: convolution on programmed crossbars, with straight-through gradients.
// cimq::crossbar_conv2d_backward: those gradients that need to know what the converters did.
#include <torch/library.h>

#include "ops/support/crossbar_call.h"

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(cimq::ops::kConv2d.schema().c_str());
  m.def(cimq::ops::kConv2dBackward.schema().c_str());
}
