// In a build without CUDA kernels, operators say so, and what to do, when they meet tensors of a CUDA device. Without
// this torch would list the dispatch keys that it knows.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace cimq::ops {
namespace {

constexpr const char* kWithoutKernel[] = {
    "activation",
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "conv2d_f32",
    "crossbar_conv2d",
    "crossbar_conv2d_backward",
    "crossbar_conv2d_conversions",
    "crossbar_mvm",
    "crossbar_mvm_backward",
    "crossbar_mvm_conversions",
    "digital_conv2d",
    "digital_matmul",
    "fake_quantize",
    "fake_quantize_backward",
    "fake_quantized_conv2d",
    "fake_quantized_conv2d_backward",
    "group_norm",
    "layer_norm",
    "linear_f32",
    "mean",
    "programmed_levels",
    "quantize",
    "resize2d",
    "softmax",
};

void refuse(const c10::OperatorHandle& op, torch::jit::Stack* /*stack*/) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, op.operator_name().name,
                              " has no CUDA kernel in this build of cimq (`cimq info` shows what was built): move its "
                              "tensors to the CPU, e.g. model.cpu() and x.cpu()");
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CUDA, m) {
  for (const char* name : cimq::ops::kWithoutKernel) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&cimq::ops::refuse>());
  }
}
