// Counters have no derivatives.
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops/support/crossbar_call.h"

TORCH_LIBRARY_IMPL(cimq, Autograd, m) {
  m.impl(cimq::ops::kMvmConversions.name, torch::autograd::autogradNotImplementedFallback());
  m.impl(cimq::ops::kConv2dConversions.name, torch::autograd::autogradNotImplementedFallback());
}
