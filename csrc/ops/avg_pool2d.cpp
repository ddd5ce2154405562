// cimq::avg_pool2d: average pooling whose sums have one order, so that training, conversion and the executor agree.
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/avg_pool2d_backward.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <vector>

#include "kernels/pooling.h"
#include "ops/checks.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "avg_pool2d";

at::Tensor avg_pool2d_cpu(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, bool count_include_pad) {
  check_cpu(kName, "x", x);
  TORCH_CHECK_TYPE(x.scalar_type() == at::kFloat, kName, ": x must be float32, got ", describe(x));
  TORCH_CHECK_VALUE(x.dim() == 4, kName, ": x must be [batch, channels, height, width], got shape ", x.sizes());
  TORCH_CHECK_VALUE(kernel_size.size() == 2 && stride.size() == 2 && padding.size() == 2, kName,
                    ": kernel_size, stride and padding must have two values each, got ", kernel_size, ", ", stride,
                    " and ", padding);
  const auto positive = [&](const char* name, at::IntArrayRef values, std::int64_t lowest) {
    TORCH_CHECK_VALUE(values[0] >= lowest && values[1] >= lowest, kName, ": ", name, " must be at least ", lowest,
                      ", got ", values);
  };
  positive("kernel_size", kernel_size, 1);
  positive("stride", stride, 1);
  positive("padding", padding, 0);
  const std::int64_t h = x.size(2);
  const std::int64_t w = x.size(3);
  TORCH_CHECK_VALUE(h + 2 * padding[0] >= kernel_size[0] && w + 2 * padding[1] >= kernel_size[1], kName,
                    ": the kernel ", kernel_size, " is larger than the padded image, shape ", x.sizes());
  const std::int64_t out_h = (h + 2 * padding[0] - kernel_size[0]) / stride[0] + 1;
  const std::int64_t out_w = (w + 2 * padding[1] - kernel_size[1]) / stride[1] + 1;
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty({x.size(0), x.size(1), out_h, out_w}, source.options());
  const float* from = source.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const std::int64_t planes = x.size(0) * x.size(1);
  const std::int64_t grain = 1 + (std::int64_t{1} << 15) / (out_h * out_w * kernel_size[0] * kernel_size[1]);
  translate_errors(kName, [&] {
    at::parallel_for(0, planes, grain, [&](std::int64_t begin, std::int64_t end) {
      kernels::avg_pool2d(from + begin * h * w, 1, end - begin, h, w, kernel_size[0], kernel_size[1], stride[0],
                          stride[1], padding[0], padding[1], count_include_pad, to + begin * out_h * out_w);
    });
    return true;
  });
  return y;
}

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class AvgPool2d : public torch::autograd::Function<AvgPool2d> {
 public:
  static constexpr bool is_traceable = true;  // NOLINT(readability-identifier-naming): torch's name

  static Variable forward(AutogradContext* ctx, const Variable& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                          at::IntArrayRef padding, bool count_include_pad) {
    at::AutoDispatchBelowADInplaceOrView guard;
    ctx->save_for_backward({x});
    ctx->saved_data["kernel_size"] = kernel_size;
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["count_include_pad"] = count_include_pad;
    static const auto kOp =
        c10::Dispatcher::singleton().findSchemaOrThrow("cimq::avg_pool2d", "").typed<decltype(avg_pool2d_cpu)>();
    return kOp.call(x, kernel_size, stride, padding, count_include_pad);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto& data = ctx->saved_data;
    const auto kernel_size = data["kernel_size"].toIntVector();
    const auto stride = data["stride"].toIntVector();
    const auto padding = data["padding"].toIntVector();
    return {at::avg_pool2d_backward(grads[0], ctx->get_saved_variables()[0], kernel_size, stride, padding, false,
                                    data["count_include_pad"].toBool(), std::nullopt),
            Variable(), Variable(), Variable(), Variable()};
  }
};

at::Tensor avg_pool2d_autograd(const at::Tensor& x, at::IntArrayRef kernel_size, at::IntArrayRef stride,
                               at::IntArrayRef padding, bool count_include_pad) {
  return AvgPool2d::apply(x, kernel_size, stride, padding, count_include_pad);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("avg_pool2d(Tensor x, int[] kernel_size, int[] stride, int[] padding, bool count_include_pad=True) -> Tensor");
}

TORCH_LIBRARY_IMPL(cimq, CPU, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_cpu)); }

TORCH_LIBRARY_IMPL(cimq, Autograd, m) { m.impl("avg_pool2d", TORCH_FN(cimq::ops::avg_pool2d_autograd)); }
