#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "kernels/cuda/conversions.h"
#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_conversions.h"
#include "ops/support/patches.h"

namespace cimq::ops {
namespace {

/// Counters on the device, which any number of chips and batches add to.
class DeviceCounter {
 public:
  DeviceCounter(const DeviceCall& call, const kernels::cuda::MvmLayer& layer, const at::Device& device)
      : call_(call), layer_(layer) {
    const kernels::MvmPlan& plan = layer.plan();
    const auto integers = at::device(device).dtype(at::kLong);
    codes_ = at::zeros({plan.n_w, plan.levels}, integers);
    clipped_ = at::zeros({plan.n_w, 2}, integers);
    currents_ = at::zeros({plan.n_w, 2}, integers);
    errors_ = at::zeros({plan.n_w}, integers.dtype(at::kDouble));
  }

  /// x [groups, rows, inputs], contiguous bytes.
  void add(const kernels::cuda::DeviceImage& image, const at::Tensor& x, const kernels::cuda::Accesses& accesses) {
    const std::int64_t rows = x.size(1);
    if (rows == 0) return;
    if (!started_) {
      currents_.select(1, 0).fill_(std::numeric_limits<std::int64_t>::max());
      currents_.select(1, 1).fill_(std::numeric_limits<std::int64_t>::min());
      started_ = true;
    }
    const at::Tensor scratch =
        at::empty({kernels::cuda::count_conversions_scratch(layer_, image.chips, rows)}, errors_.options());
    call_.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::count_conversions(
          layer_, image, static_cast<const std::uint8_t*>(x.const_data_ptr()), rows,
          {codes_.mutable_data_ptr<std::int64_t>(), clipped_.mutable_data_ptr<std::int64_t>(),
           currents_.mutable_data_ptr<std::int64_t>(), errors_.mutable_data_ptr<double>(),
           scratch.mutable_data_ptr<double>()},
          accesses, stream);
    });
  }

  void push(torch::jit::Stack& results) const { torch::jit::push(results, codes_, clipped_, currents_, errors_); }

 private:
  const DeviceCall& call_;
  const kernels::cuda::MvmLayer& layer_;
  bool started_ = false;
  at::Tensor codes_;
  at::Tensor clipped_;
  at::Tensor currents_;
  at::Tensor errors_;
};

/// Calls add(image) for all chips, as many at once as fit.
template <typename Add>
void for_chips(const char* op, const DeviceCall& device, const CrossbarArgs& args,
               const DeviceLayer<ConversionLayer>& layer, const at::Tensor& w, const Add& add) {
  translate_errors(op, [&] {
    DeviceProgrammer programmer(device, args, layer.matrices(), layer.constants, layer.tables, w);
    const auto chips = static_cast<int>(args.different_chips());
    const int at_once = programmer.chips_at_once(chips);
    for (int first = 0; first < chips; first += at_once) {
      add(programmer.program(first, std::min(at_once, chips - first)));
    }
    return true;
  });
}

void mvm_conversions(const TakenCall& taken, torch::jit::Stack& results) {
  constexpr const char* kName = kMvmConversions.name;
  const at::Tensor& x_q = taken.operands[0];
  const at::Tensor& w_q = taken.operands[1];
  auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, taken.call);
  const CrossbarArgs args = parse_conversions(kName, call, outputs_of(w_q));
  check_mvm_operands(kName, x_q, w_q);
  refuse_reference(kName, args);
  const auto layer = conversion_layer(kName, call, args, w_q, 1);
  NarrowedOperands operands(kName, device);
  const at::Tensor x = rows_of(operands.add_activations(x_q, call)).unsqueeze(0);
  const at::Tensor w = operands.add_weights(w_q, call);
  operands.check();
  DeviceCounter counter(device, layer->matrices(), x.device());
  for_chips(kName, device, args, *layer, w,
            [&](const kernels::cuda::DeviceImage& image) { counter.add(image, x, accesses_of(args)); });
  counter.push(results);
}

void conv2d_conversions(const TakenCall& taken, torch::jit::Stack& results) {
  constexpr const char* kName = kConv2dConversions.name;
  const at::Tensor& x_q = taken.operands[0];
  const at::Tensor& w_q = taken.operands[1];
  auto [device, call] = CrossbarOnDevice(kName, x_q, w_q, taken.call);
  const CrossbarArgs args = parse_conversions(kName, call, outputs_of(w_q));
  const kernels::Conv2dGeometry g = parse_geometry(kName, x_q, w_q, conv_request(call));
  refuse_reference(kName, args);
  const auto layer = conversion_layer(kName, call, args, w_q, g.groups);
  NarrowedOperands operands(kName, device);
  const at::Tensor x = operands.add_activations(x_q, call);
  const at::Tensor w = operands.add_weights(w_q, call);
  operands.check();
  const PatchGeometry patches(g, x.size(2), x.size(3));
  const std::int64_t chunk = patches.images_at_once();
  const std::int64_t positions = g.out_h(x.size(2)) * g.out_w(x.size(3));
  DeviceCounter counter(device, layer->matrices(), x.device());
  for_chips(kName, device, args, *layer, w, [&](const kernels::cuda::DeviceImage& image) {
    for (std::int64_t first = 0; first < x.size(0); first += chunk) {
      kernels::cuda::Accesses accesses = accesses_of(args);
      accesses.first += static_cast<std::uint64_t>(first * positions);
      counter.add(image, patches.gather(x.slice(0, first, std::min(first + chunk, x.size(0)))), accesses);
    }
  });
  counter.push(results);
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kMvmConversions.name,
         torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kMvmConversions, mvm_conversions>>());
  m.impl(kConv2dConversions.name,
         torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kConv2dConversions, conv2d_conversions>>());
}
