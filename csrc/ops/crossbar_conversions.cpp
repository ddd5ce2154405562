// cimq::crossbar_mvm_conversions and cimq::crossbar_conv2d_conversions: what the converters of a layer do with given
// inputs, counted. The numbers behind cimq.ops.crossbar_diagnostics.
#include <torch/library.h>

#include "ops/support/crossbar_call.h"

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(cimq::ops::kMvmConversions.schema().c_str());
  m.def(cimq::ops::kConv2dConversions.schema().c_str());
}
