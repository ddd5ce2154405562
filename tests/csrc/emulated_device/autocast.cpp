// torch.autocast("emulated"): products in 16 bits, sums and norms in float32, as on CUDA.
#include <ATen/Operators.h>
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace at::autocast {

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define CIMQ_IN_16_BITS(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define CIMQ_IN_FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define CIMQ_INTO_FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define CIMQ_IN_THE_WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(CIMQ_IN_16_BITS)
  AT_FORALL_FP32(CIMQ_IN_FLOAT32)
  AT_FORALL_FP32_SET_OPT_DTYPE(CIMQ_INTO_FLOAT32)
  AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE(KERNEL_DIFFERENT_REDISPATCH_SIGNATURE_PRIVATEUSEONE)
  AT_FORALL_PROMOTE(CIMQ_IN_THE_WIDEST)
#undef CIMQ_IN_16_BITS
#undef CIMQ_IN_FLOAT32
#undef CIMQ_INTO_FLOAT32
#undef CIMQ_IN_THE_WIDEST
}

}  // namespace at::autocast
