#include "ops/support/own_products.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "common/hardware.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kWork = std::int64_t{1} << 20;  // products that a thread is worth starting for

/// Eight bits on a machine that loses nothing: the kernels then multiply the integers.
kernels::MvmOptions eight_bits(const at::Tensor& x) {
  kernels::MvmOptions options;
  options.act_signed = x.scalar_type() == at::kChar;
  return options;
}

Hardware lossless() { return Hardware{}; }

}  // namespace

at::Tensor own_conv2d(const char* op, const at::Tensor& x, const at::Tensor& w, const ConvRequest& request) {
  const kernels::Conv2dGeometry g = parse_geometry(op, x, w, request);
  const at::Tensor images = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const std::int64_t h = x.size(2);
  const std::int64_t width = x.size(3);
  at::Tensor y = at::empty({x.size(0), w.size(0), g.out_h(h), g.out_w(width)}, x.options().dtype(at::kInt),
                           at::MemoryFormat::Contiguous);
  translate_errors(op, [&] {
    const kernels::cpu::CrossbarConv2d conv({lossless(), weights.const_data_ptr<std::int8_t>(), g, eight_bits(x)});
    const auto* source = static_cast<const std::uint8_t*>(images.const_data_ptr());
    auto* target = y.mutable_data_ptr<std::int32_t>();
    const std::int64_t row = std::max<std::int64_t>(1, g.out_w(width) * g.out_channels * g.inputs_per_output());
    at::parallel_for(0, x.size(0) * g.out_h(h), 1 + kWork / row, [&](std::int64_t begin, std::int64_t end) {
      conv.run_rows(source, h, width, begin, end, target);
    });
    return true;
  });
  return y;
}

at::Tensor own_matmul(const char* op, const at::Tensor& x, const at::Tensor& w) {
  if (x.dim() == 2) return own_matmul(op, x.unsqueeze(0), w.unsqueeze(0)).squeeze(0);
  const at::Tensor rows = x.contiguous();
  const at::Tensor weights = w.contiguous();
  const std::int64_t batch = x.size(1);
  const std::int64_t inputs = x.size(2);
  const std::int64_t outputs = w.size(1);
  at::Tensor y = at::empty({x.size(0), batch, outputs}, x.options().dtype(at::kInt));
  translate_errors(op, [&] {
    for (std::int64_t m = 0; m < x.size(0) && batch > 0; ++m) {
      const kernels::cpu::CrossbarMvm mvm(
          {lossless(), weights.const_data_ptr<std::int8_t>() + m * outputs * inputs, outputs, inputs, eight_bits(x)});
      const auto* source = static_cast<const std::uint8_t*>(rows.const_data_ptr()) + m * batch * inputs;
      auto* target = y.mutable_data_ptr<std::int32_t>() + m * batch * outputs;
      const std::int64_t grain = 1 + kWork / std::max<std::int64_t>(1, inputs * outputs);
      at::parallel_for(0, batch, grain, [&](std::int64_t begin, std::int64_t end) {
        mvm.run(source + begin * inputs, end - begin, target + begin * outputs);
      });
    }
    return true;
  });
  return y;
}

}  // namespace cimq::ops
