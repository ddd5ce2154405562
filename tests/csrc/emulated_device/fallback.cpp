// Every operator of torch that the devices have no kernel for is computed by the CPU on copies, in the place of a
// kernel of torch's own. Not those of cimq: what they do on a device is what is tested.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_batch_norm.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "emulated_device/devices.h"
#include "emulated_device/generator.h"

namespace cimq::emulated_device {
namespace {

/// Kernels of CUDA that wait for the device as well, as the size of their result depends on values.
constexpr std::array<std::string_view, 12> kWaiting = {"aten::nonzero",
                                                       "aten::masked_select",
                                                       "aten::_unique",
                                                       "aten::_unique2",
                                                       "aten::unique_dim",
                                                       "aten::unique_consecutive",
                                                       "aten::unique_dim_consecutive",
                                                       "aten::equal",
                                                       "aten::bincount",
                                                       "aten::histc",
                                                       "aten::repeat_interleave",
                                                       "aten::nonzero_numpy"};

/// Operators that take tensors of the CPU beside those of a device.
constexpr std::array<std::string_view, 5> kMixed = {"aten::index", "aten::index_put", "aten::_index_put_impl",
                                                    "aten::_pack_padded_sequence", "aten::_unsafe_index"};

template <std::size_t count>
bool is_one_of(const std::array<std::string_view, count>& names, std::string_view name) {
  if (name.ends_with('_')) name.remove_suffix(1);
  return std::find(names.begin(), names.end(), name) != names.end();
}

void add_tensors(const c10::IValue& value, std::vector<at::Tensor>& found) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) found.push_back(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) {
      if (tensor.defined()) found.push_back(tensor);
    }
  } else if (value.isOptionalTensorList()) {
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      if (tensor.has_value() && tensor->defined()) found.push_back(*tensor);
    }
  }
}

/// The device of the operands, which must be one; numbers may be on the CPU. Without operands: none.
std::optional<c10::Device> one_device(const std::string& name, const std::vector<at::Tensor>& tensors) {
  std::optional<c10::Device> device;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.device().type() != kType) continue;
    TORCH_CHECK(!device.has_value() || *device == tensor.device(), name,
                ": expected all tensors to be on the same device, got ", *device, " and ", tensor.device());
    device = tensor.device();
  }
  if (!device.has_value() || is_one_of(kMixed, name)) return device;
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.device().type() == kType || tensor.dim() == 0, name,
                ": expected all tensors to be on the same device, got ", *device, " and ", tensor.device());
  }
  return device;
}

void fall_back(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const std::string& name = schema.name();
  TORCH_CHECK_NOT_IMPLEMENTED(!name.starts_with("cimq::"), name, " has no kernel for the emulated device");
  const std::size_t count = schema.arguments().size();
  const std::size_t first = stack->size() - count;
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; i < count; ++i) add_tensors((*stack)[first + i], tensors);
  const std::optional<c10::Device> device = one_device(name, tensors);
  if (is_one_of(kWaiting, name)) wait_for_device(name);
  for (std::size_t i = 0; i < count; ++i) {
    if (schema.arguments()[i].name() != "generator") continue;
    c10::IValue& given = (*stack)[first + i];
    const int index = device.has_value() ? device->index() : current_device();
    given = host_generator(given.isNone() ? default_generator(index) : given.toGenerator());
  }
  const StandsForKernel scope;
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
  if (!device.has_value()) return;
  // Where the first operand is a number of the CPU, so is the result.
  for (std::size_t i = stack->size() - schema.returns().size(); i < stack->size(); ++i) {
    c10::IValue& value = (*stack)[i];
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cpu()) {
      value = value.toTensor().to(*device);
    }
  }
}

/// Draws from the device's generator, which the operator has no argument for.
std::tuple<at::Tensor, at::Tensor> native_dropout(const at::Tensor& x, double p, std::optional<bool> train) {
  at::Tensor mask = at::empty_like(x, x.options().dtype(at::kBool));
  if (!train.value_or(true)) return {x.clone(), mask.fill_(true)};
  mask.bernoulli_(1 - p);
  return {x.mul(mask).mul_(p < 1 ? 1 / (1 - p) : 0.0), mask};
}

/// Its schema does not say that the running statistics are written to.
std::tuple<at::Tensor, at::Tensor, at::Tensor> native_batch_norm(const at::Tensor& x,
                                                                 const std::optional<at::Tensor>& weight,
                                                                 const std::optional<at::Tensor>& bias,
                                                                 const std::optional<at::Tensor>& running_mean,
                                                                 const std::optional<at::Tensor>& running_var,
                                                                 bool training, double momentum, double eps) {
  const StandsForKernel scope;
  const auto on_host = [](const std::optional<at::Tensor>& tensor) {
    return tensor.has_value() && tensor->defined() ? std::optional<at::Tensor>(tensor->cpu()) : std::nullopt;
  };
  const std::optional<at::Tensor> mean = on_host(running_mean);
  const std::optional<at::Tensor> var = on_host(running_var);
  const auto [y, batch_mean, batch_factor] =
      at::native_batch_norm(x.cpu(), on_host(weight), on_host(bias), mean, var, training, momentum, eps);
  if (training && mean.has_value()) running_mean->copy_(*mean);
  if (training && var.has_value()) running_var->copy_(*var);
  return {y.to(x.device()), batch_mean.to(x.device()), batch_factor.to(x.device())};
}

/// Attention is taken apart, as on the CPU without a fused kernel.
std::int64_t attention_kernel(const at::Tensor& /*query*/, const at::Tensor& /*key*/, const at::Tensor& /*value*/,
                              const std::optional<at::Tensor>& /*mask*/, double /*dropout*/, bool /*causal*/,
                              std::optional<double> /*scale*/, bool /*enable_gqa*/) {
  return static_cast<std::int64_t>(sdp::SDPBackend::math);
}

}  // namespace
}  // namespace cimq::emulated_device

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &cimq::emulated_device::attention_kernel)
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&cimq::emulated_device::fall_back>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  // These have a kernel for any device, which finds no back end or other sums than the CPU's.
  for (const char* name : {"convolution", "convolution_backward", "native_layer_norm", "native_group_norm"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&cimq::emulated_device::fall_back>());
  }
  m.impl("native_batch_norm", TORCH_FN(cimq::emulated_device::native_batch_norm));
  m.impl("native_dropout", TORCH_FN(cimq::emulated_device::native_dropout));
}
