#include "kernels/cuda/crossbar_conv2d.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_layer.h"

namespace cimq::ops {
namespace {

using kernels::cuda::Conv2dLayer;

constexpr const char* kName = kConv2d.name;

std::shared_ptr<const DeviceLayer<Conv2dLayer>> layer_of(const CrossbarCall& call, const CrossbarArgs& args,
                                                         const kernels::Conv2dGeometry& geometry, const at::Tensor& w) {
  static auto& cache =
      listed_cache<ProgramCache<DeviceLayer<Conv2dLayer>>>("device_crossbar_conv2d", kDeviceLayerLimits);
  return device_layer(
      cache, kName, call, args, w, [&](ProgramKey& key) { key.add(geometry); },
      [&] {
        const kernels::Conv2dProblem problem{*args.hardware, nullptr, geometry, args.options};
        return Conv2dLayer(problem, 1, kernels::cuda::Programming::kOnDevice);
      });
}

at::Tensor crossbar_conv2d_cuda(const at::Tensor& x_q, const at::Tensor& w_q, const CrossbarCall& given) {
  const auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, given);
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  const kernels::Conv2dGeometry geometry = parse_geometry(kName, x_q, w_q, conv_request(call));
  refuse_reference(kName, args);
  const auto layer = layer_of(call, args, geometry, w_q);
  NarrowedOperands operands(kName, device);
  const at::Tensor x = operands.add_activations(x_q, call);
  const at::Tensor w = operands.add_weights(w_q, call);
  operands.check();
  at::Tensor y =
      at::empty({args.different_chips(), x.size(0), w.size(0), geometry.out_h(x.size(2)), geometry.out_w(x.size(3))},
                x.options().dtype(layer->plan().exact ? at::kInt : at::kFloat));
  run_chips(kName, device, args, *layer, w, y,
            [&](const kernels::cuda::DeviceImage& image, void* results, kernels::cuda::Stream stream) {
              kernels::cuda::crossbar_conv2d(layer->layer, image, static_cast<const std::uint8_t*>(x.const_data_ptr()),
                                             x.size(0), x.size(2), x.size(3), results, accesses_of(args), stream);
            });
  y = y.to(result_type(x_q, w_q, layer->plan().gives_integers()));
  return args.stacked ? y.expand({args.chips, -1, -1, -1, -1}).contiguous() : y.squeeze(0);
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, crossbar_conv2d_cuda(taken.operands[0], taken.operands[1], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kConv2d.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kConv2d, run>>());
}
