// Layers of the CUDA kernels for a call: what does not depend on the weights is kept, cells are programmed on the
// device at every call. Nothing that is kept can be out of date, whatever happens to the weights, and a graph that is
// replayed programs the weights that are there then.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "kernels/cuda/crossbar_conv2d.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "ops/cuda/device_call.h"
#include "ops/cuda/device_constants.h"
#include "ops/support/checks.h"
#include "ops/support/crossbar_args.h"
#include "ops/support/program_cache.h"

namespace cimq::ops {

inline const kernels::cuda::MvmLayer& matrices_of(const kernels::cuda::MvmLayer& layer) { return layer; }
inline const kernels::cuda::MvmLayer& matrices_of(const kernels::cuda::Conv2dLayer& layer) { return layer.matrices(); }

/// A layer, MvmLayer or Conv2dLayer, and its constants on a device.
template <typename Layer>
struct DeviceLayer {
  DeviceLayer(const char* op, Layer made, const Hardware& hardware, const at::Device& device)
      : layer(std::move(made)),
        constants(constants_on(op, device, matrices().constants().data(), matrices().constants().size())) {
    if (matrices().plan().fractional) tables.emplace(op, hardware, device);
  }

  const kernels::cuda::MvmLayer& matrices() const { return matrices_of(layer); }
  const kernels::MvmPlan& plan() const { return matrices().plan(); }
  std::int64_t packed_bytes() const { return static_cast<std::int64_t>(matrices().constants().size()); }

  Layer layer;
  std::shared_ptr<const DeviceConstants> constants;
  std::optional<DeviceCellTables> tables;  ///< where cells are fractional
};

/// What the read noise of a call is drawn for.
inline kernels::cuda::Accesses accesses_of(const CrossbarArgs& args) {
  return {args.options.seed, args.options.layer, args.options.first_output, args.first_access};
}

constexpr CacheLimits kDeviceLayerLimits{std::size_t{64} << 20, std::size_t{1} << 13};

/// The layer of a call on the device of `x`. `add_shape(key)` adds what it depends on besides the call; make() is the
/// layer, Programming::kOnDevice. `call` has its ranges on the CPU (CrossbarOnDevice).
template <typename Layer, typename AddShape, typename Make>
std::shared_ptr<const DeviceLayer<Layer>> device_layer(ProgramCache<DeviceLayer<Layer>>& cache, const char* op,
                                                       const CrossbarCall& call, const CrossbarArgs& args,
                                                       const at::Tensor& x, const AddShape& add_shape,
                                                       const Make& make) {
  ProgramKey key;
  call.add_plan_to(key);
  key.add(x.device().index());
  add_shape(key);
  return translate_errors(op, [&] {
    return cache.get(key, [&](const std::int8_t* /*no weights*/) {
      return std::make_shared<const DeviceLayer<Layer>>(op, make(), *args.hardware, x.device());
    });
  });
}

/// Programs cells from weights on the device, as many chips at once as fit a bounded memory.
class DeviceProgrammer {
 public:
  /// `w`: int8 of all groups, contiguous.
  DeviceProgrammer(const DeviceCall& call, const CrossbarArgs& args, const kernels::cuda::MvmLayer& layer,
                   const std::shared_ptr<const DeviceConstants>& constants,
                   const std::optional<DeviceCellTables>& tables, const at::Tensor& w);

  /// Programs chips first..first + count on the current stream. What it returns is valid until the next call, in the
  /// order of the stream.
  kernels::cuda::DeviceImage program(int first, int count);

  /// How many of `chips` are programmed at once.
  int chips_at_once(int chips) const;

 private:
  const std::int16_t* conductances_of(int chip);

  const DeviceCall& call_;
  const CrossbarArgs& args_;
  const kernels::cuda::MvmLayer& layer_;
  const std::shared_ptr<const DeviceConstants>& constants_;
  const std::optional<DeviceCellTables>& tables_;
  const at::Tensor& w_;
  at::Tensor programmed_;
  at::Tensor conductances_;
  at::Tensor work_memory_;
};

/// Starts the products of y.size(0) chips, from chip 0 on. product(image, first result, stream) starts those of the
/// chips that `image` holds; y [chips, ...] is int32 or float32 as the plan says.
template <typename Layer, typename Product>
void run_chips(const char* op, const DeviceCall& call, const CrossbarArgs& args, const DeviceLayer<Layer>& layer,
               const at::Tensor& w, const at::Tensor& y, const Product& product) {
  if (y.numel() == 0) return;
  translate_errors(op, [&] {
    DeviceProgrammer programmer(call, args, layer.matrices(), layer.constants, layer.tables, w);
    const auto chips = static_cast<int>(y.size(0));
    const int at_once = programmer.chips_at_once(chips);
    for (int first = 0; first < chips; first += at_once) {
      const kernels::cuda::DeviceImage image = programmer.program(first, std::min(at_once, chips - first));
      void* results = y.select(0, first).mutable_data_ptr();
      call.run([&](kernels::cuda::Stream stream) { product(image, results, stream); });
    }
    return true;
  });
}

}  // namespace cimq::ops
