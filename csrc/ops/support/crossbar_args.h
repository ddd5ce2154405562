// What a crossbar operator is asked for, checked and in the kernels' types.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "common/hardware.h"
#include "kernels/plan/mvm_plan.h"
#include "ops/support/conv_args.h"
#include "ops/support/crossbar_call.h"

namespace cimq::ops {

struct CrossbarArgs {
  std::shared_ptr<const Hardware> hardware;
  kernels::MvmOptions options;
  std::int64_t chips = 1;
  bool stacked = false;            ///< the result has a leading dimension of chips
  bool by_reference = false;       ///< plain loops instead of the kernels
  std::uint64_t first_access = 0;  ///< number of the first product, for read noise
  bool clip = false;               ///< adc_grad "clip"

  /// Chips that have to be computed: without variation all are equal.
  std::int64_t different_chips() const { return hardware->varies() ? chips : 1; }
};

/// @param outputs  of the layer: all groups together
/// Throws ValueError or TypeError.
CrossbarArgs parse_call(const char* op, const CrossbarCall& call, std::int64_t outputs);

/// The same for conversions, which are those of every slice and not of what collapses: sets the call's backend so.
/// Refuses hardware without a converter.
CrossbarArgs parse_conversions(const char* op, CrossbarCall& call, std::int64_t outputs);

/// The geometry of a convolution; refers to `call`.
inline ConvRequest conv_request(const CrossbarCall& call) {
  return {call.stride, call.padding, call.dilation, call.groups};
}

/// Outputs of a weight [outputs, ...]; 0 for one without dimensions, which is refused later.
inline std::int64_t outputs_of(const at::Tensor& w) { return w.dim() > 0 ? w.size(0) : 0; }

/// Refuses operands of crossbar_mvm that are not [..., inputs] and [outputs, inputs].
void check_mvm_operands(const char* op, const at::Tensor& x, const at::Tensor& w);

/// Shape of the result: [..., outputs], with the chips in front where they are stacked.
std::vector<std::int64_t> mvm_shape(const CrossbarArgs& args, const at::Tensor& x, const at::Tensor& w);

/// [..., inputs] -> [batch, inputs]; view({-1, inputs}) would not know the batch of an empty tensor.
at::Tensor rows_of(const at::Tensor& x);

/// Type of the result of an op on x and w.
at::ScalarType result_type(const at::Tensor& x, const at::Tensor& w, bool integers);

}  // namespace cimq::ops
