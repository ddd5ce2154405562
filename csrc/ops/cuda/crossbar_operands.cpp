#include "ops/cuda/crossbar_operands.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <type_traits>

#include "common/float16.h"
#include "kernels/narrow.h"
#include "ops/support/checks.h"
#include "ops/support/operands.h"

namespace cimq::ops {
namespace {

/// T as the kernels name it.
template <typename T>
using KernelType = std::conditional_t<std::is_same_v<T, at::BFloat16>, BFloat16,
                                      std::conditional_t<std::is_same_v<T, at::Half>, Float16, T>>;

/// Whether every value of `type` is within `range`.
bool holds_nothing_else(at::ScalarType type, const IntegerRange& range) {
  return (type == at::kByte && range.lo == 0 && range.hi == 255) ||
         (type == at::kChar && range.lo == -128 && range.hi == 127);
}

const at::Tensor& on_one_device(const char* op, const at::Tensor& x_q, const at::Tensor& w_q) {
  check_cuda(op, "x_q", x_q, x_q);
  check_cuda(op, "w_q", w_q, x_q);
  return x_q;
}

CrossbarCall with_ranges_on_host(const char* op, const CrossbarCall& call) {
  CrossbarCall found = call;
  const auto on_device = [](const std::optional<at::Tensor>& tensor) {
    return given(tensor) && tensor->device().type() == kDeviceType;
  };
  const bool lo = on_device(call.adc_lo);
  const bool lsb = on_device(call.adc_lsb);
  if (!lo && !lsb) return found;
  TORCH_CHECK(!is_capturing(), op,
              ": adc_lo and adc_lsb must be on the CPU while a graph is captured, as the plan of a product is made "
              "there, got them on ",
              (lo ? *call.adc_lo : *call.adc_lsb).device().str());
  // The second copy waits for both, where they are of one device: it waits for no other.
  const bool together = lo && lsb && call.adc_lo->device() == call.adc_lsb->device();
  if (lo) found.adc_lo = call.adc_lo->to(at::kCPU, /*non_blocking=*/together);
  if (lsb) found.adc_lsb = call.adc_lsb->to(at::kCPU);
  return found;
}

}  // namespace

void refuse_reference(const char* op, const CrossbarArgs& args) {
  TORCH_CHECK_NOT_IMPLEMENTED(!args.by_reference, op,
                              ": backend reference_cpp is plain loops on the CPU: move the tensors there");
}

CrossbarOnDevice::CrossbarOnDevice(const char* op, const at::Tensor& x_q, const at::Tensor& w_q,
                                   const CrossbarCall& given)
    : device(on_one_device(op, x_q, w_q), op), call(with_ranges_on_host(op, given)) {}

at::Tensor NarrowedOperands::add(const char* name, const at::Tensor& tensor, const IntegerRange& range, bool zero) {
  check_integer_type(op_, name, tensor);
  const at::ScalarType type = tensor.scalar_type();
  const bool in_place = tensor.element_size() == 1;
  if (holds_nothing_else(type, range)) return tensor.contiguous();
  if (in_place && is_capturing()) return tensor.contiguous();  // replays do not check
  // In the order in which the values lie; bytes are quicker to bring into another one than what they were.
  const at::Tensor source = tensor.is_non_overlapping_and_dense() ? tensor : tensor.contiguous();
  const auto byte_type = range.lo >= 0 ? at::kByte : at::kChar;
  const at::Tensor bytes = in_place ? source : at::empty_like(source, source.options().dtype(byte_type));
  if (!faults_.defined()) faults_ = at::zeros({1}, tensor.options().dtype(at::kInt));
  const int fault = 1 << checked_.size();
  checked_.push_back({name, tensor, range, zero});
  auto* target = in_place ? nullptr : static_cast<std::uint8_t*>(bytes.mutable_data_ptr());
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, type, "cimq_narrowed", [&] {
    call_.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::narrow(static_cast<const KernelType<scalar_t>*>(source.const_data_ptr()), source.numel(),
                            {range, zero}, target, fault, faults_.mutable_data_ptr<int>(), stream);
    });
  });
  return bytes.contiguous();
}

void NarrowedOperands::check() const {
  if (!faults_.defined() || is_capturing()) return;
  const int found = faults_.item<int>();
  if (found == 0) return;
  // The CPU finds the value and says the sentence.
  for (std::size_t j = 0; j < checked_.size(); ++j) {
    if ((found >> j & 1) == 0) continue;
    const Checked& operand = checked_[j];
    const at::Tensor bytes = narrowed(op_, operand.name, operand.tensor.cpu(), operand.range);
    if (!operand.zero) {
      translate_errors(op_, [&] {
        kernels::check_weights(bytes.const_data_ptr<std::int8_t>(), bytes.numel(), 1);
        return true;
      });
    }
    TORCH_CHECK(false, op_, ": ", operand.name, " changed while it was checked; another stream writes to it");
  }
}

}  // namespace cimq::ops
