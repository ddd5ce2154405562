// cimq::crossbar_mvm: Y = crossbar(x . w^T), with straight-through gradients for floating operands that hold integers.
// cimq::crossbar_mvm_backward: those gradients that need to know what the converters did.
#include <torch/library.h>

#include "ops/support/crossbar_call.h"

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def(cimq::ops::kMvm.schema().c_str());
  m.def(cimq::ops::kMvmBackward.schema().c_str());
}
