// Layers whose conversions are looked at on a device: for the backward operators and for diagnostics.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "ops/cuda/device_layer.h"
#include "ops/support/crossbar_backward.h"

namespace cimq::ops {

/// The matrices of a layer, not collapsed, with slice_worth() among their constants.
struct ConversionLayer {
  explicit ConversionLayer(const std::vector<kernels::MvmProblem>& groups);

  kernels::cuda::MvmLayer layer;
  std::size_t worth;        ///< where it begins
  std::size_t worth_bytes;  ///< of doubles
};

inline const kernels::cuda::MvmLayer& matrices_of(const ConversionLayer& layer) { return layer.layer; }

/// The layer of a call on the device of w [groups * outputs, ...]. `call` has its ranges on the CPU.
std::shared_ptr<const DeviceLayer<ConversionLayer>> conversion_layer(const char* op, CrossbarCall call,
                                                                     const CrossbarArgs& args, const at::Tensor& w,
                                                                     std::int64_t groups);

class DeviceConversions final : public ConversionSource {
 public:
  /// Programs the chip args.options.chip. The call, args and w (int8 of all groups, contiguous) outlive this.
  DeviceConversions(const DeviceCall& call, const CrossbarArgs& args, const at::Tensor& w,
                    std::shared_ptr<const DeviceLayer<ConversionLayer>> layer);

  void shares(const at::Tensor& x, const at::Tensor& pass, const at::Tensor& step,
              std::uint64_t first_access) const override;
  at::Tensor worth() const override;

 private:
  const DeviceCall& call_;
  std::shared_ptr<const DeviceLayer<ConversionLayer>> layer_;
  kernels::cuda::Accesses accesses_;
  DeviceProgrammer programmer_;
  kernels::cuda::DeviceImage image_;
};

/// What makes them, chip by chip, for calls that are given in full. Refers to its arguments.
ConversionsOfChip conversions_on_device(const char* op, const DeviceCall& device, const CrossbarCall& call,
                                        const at::Tensor& w, std::int64_t groups);

}  // namespace cimq::ops
