#include "ops/quantize.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <type_traits>

#include "kernels/fake_quantize.h"
#include "ops/cuda/device_call.h"
#include "ops/support/quantizer_types.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "quantize";

/// Waits for the device. A graph that is being captured cannot wait: its replays do not check their values.
void refuse_faults(const at::Tensor& faults, const at::Tensor& x) {
  if (is_capturing()) return;
  const int found = faults.item<int>();
  TORCH_CHECK_VALUE((found & kernels::cuda::kScaleNotUsable) == 0, kName, ": scale must be positive and finite");
  if ((found & kernels::cuda::kNotFinite) != 0) refuse_non_finite(x.to(at::kFloat).cpu());
}

template <typename T, typename Q>
void run(const DeviceCall& call, const at::Tensor& x, const at::Tensor& scales, const ScaledRows& rows,
         const kernels::QuantRange& range, at::Tensor& q, at::Tensor& faults) {
  call.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::quantize(static_cast<const T*>(x.const_data_ptr()), scaled_values(rows),
                            scales.const_data_ptr<float>(), range, q.mutable_data_ptr<Q>(), 0,
                            faults.mutable_data_ptr<int>(), stream);
  });
}

at::Tensor quantize_cuda(const at::Tensor& x, const at::Tensor& scale, std::int64_t qmin, std::int64_t qmax,
                         std::optional<std::int64_t> axis, bool binary) {
  check_cuda(kName, "x", x, x);
  check_cuda(kName, "scale", scale, x);
  const ScaledRows rows = check_quantize(check_quantizer_shapes, x, scale, qmin, qmax, axis, binary);
  const DeviceCall call(x);
  const bool is_unsigned = qmin >= 0;
  const at::ScalarType type = stored_type(x.scalar_type());
  const at::Tensor values = x.to(type);
  // The order of a float32 copy, as on the CPU: it closes the gaps of 16-bit floats in the order of their dimensions.
  const bool closed = values.element_size() == 2 && !values.is_non_overlapping_and_dense();
  const at::Tensor source = walkable(closed ? values.clone() : values, !axis.has_value());
  const at::Tensor scales = scale.contiguous();
  at::Tensor q = at::empty_like(source, source.options().dtype(is_unsigned ? at::kByte : at::kChar));
  at::Tensor faults = at::zeros({1}, source.options().dtype(at::kInt));
  const auto range = quant_range(qmin, qmax, binary);
  with_stored_type(type, [&]<typename T>(T) {
    if constexpr (!std::is_same_v<T, double>) {
      is_unsigned ? run<T, std::uint8_t>(call, source, scales, rows, range, q, faults)
                  : run<T, std::int8_t>(call, source, scales, rows, range, q, faults);
    }
  });
  refuse_faults(faults, x);
  return q;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) { m.impl("quantize", TORCH_FN(cimq::ops::quantize_cuda)); }
