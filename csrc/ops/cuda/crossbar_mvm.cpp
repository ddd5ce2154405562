#include "kernels/cuda/crossbar_mvm.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_layer.h"

namespace cimq::ops {
namespace {

using kernels::cuda::MvmLayer;

constexpr const char* kName = kMvm.name;

std::shared_ptr<const DeviceLayer<MvmLayer>> layer_of(const CrossbarCall& call, const CrossbarArgs& args,
                                                      const at::Tensor& w) {
  static auto& cache = listed_cache<ProgramCache<DeviceLayer<MvmLayer>>>("device_crossbar_mvm", kDeviceLayerLimits);
  const auto add_shape = [&](ProgramKey& key) {
    key.add(w.size(0));
    key.add(w.size(1));
  };
  return device_layer(cache, kName, call, args, w, add_shape, [&] {
    const kernels::MvmProblem problem{*args.hardware, nullptr, w.size(0), w.size(1), args.options};
    return MvmLayer({problem}, 1, kernels::cuda::Programming::kOnDevice);
  });
}

at::Tensor crossbar_mvm_cuda(const at::Tensor& x_q, const at::Tensor& w_q, const CrossbarCall& given) {
  const auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, given);
  const CrossbarArgs args = parse_call(kName, call, outputs_of(w_q));
  check_mvm_operands(kName, x_q, w_q);
  refuse_reference(kName, args);
  const auto layer = layer_of(call, args, w_q);
  NarrowedOperands operands(kName, device);
  const at::Tensor x = rows_of(operands.add_activations(x_q, call));
  const at::Tensor w = operands.add_weights(w_q, call);
  operands.check();
  at::Tensor y = at::empty({args.different_chips(), x.size(0), w.size(0)},
                           x.options().dtype(layer->plan().exact ? at::kInt : at::kFloat));
  run_chips(kName, device, args, *layer, w, y,
            [&](const kernels::cuda::DeviceImage& image, void* results, kernels::cuda::Stream stream) {
              kernels::cuda::crossbar_mvm(layer->layer, image, static_cast<const std::uint8_t*>(x.const_data_ptr()),
                                          x.size(0), results, accesses_of(args), stream);
            });
  y = y.to(result_type(x_q, w_q, layer->plan().gives_integers()));
  const std::vector<std::int64_t> shape = mvm_shape(args, x_q, w_q);
  return args.stacked ? y.expand({args.chips, -1, -1}).contiguous().view(shape) : y.reshape(shape);
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, crossbar_mvm_cuda(taken.operands[0], taken.operands[1], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kMvm.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kMvm, run>>());
}
