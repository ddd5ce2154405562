// Arguments that crossbar_mvm and crossbar_conv2d share, from the dispatcher's types to the kernels'.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/hardware.h"
#include "kernels/plan/mvm_plan.h"
#include "ops/support/program_cache.h"

namespace cimq::ops {

/// As they come from the dispatcher.
struct CrossbarRequest {
  const std::string& hardware;
  std::int64_t outputs;  ///< of the layer: all groups together
  std::int64_t weight_bits;
  std::int64_t act_bits;
  bool act_signed;
  std::optional<std::int64_t> chips;
  std::int64_t seed;
  std::int64_t layer;
  const std::optional<at::Tensor>& adc_lo;
  const std::optional<at::Tensor>& adc_lsb;
  c10::string_view backend;
  std::int64_t first_access;
  c10::string_view adc_grad = "identity";
};

struct CrossbarArgs {
  std::shared_ptr<const Hardware> hardware;
  kernels::MvmOptions options;
  std::int64_t chips = 1;
  bool stacked = false;            ///< the result has a leading dimension of chips
  bool by_reference = false;       ///< plain loops instead of the kernels
  std::uint64_t first_access = 0;  ///< number of the first product, for read noise
  bool clip = false;               ///< adc_grad "clip"

  /// Everything that determines the cells except the weights and their shape.
  void add_to(ProgramKey& key, const std::string& hardware_json) const;
};

/// Throws ValueError or TypeError.
CrossbarArgs parse_request(const char* op, const CrossbarRequest& request);

/// Outputs of a weight [outputs, ...]; 0 for one without dimensions, which is refused later.
inline std::int64_t outputs_of(const at::Tensor& w) { return w.dim() > 0 ? w.size(0) : 0; }

/// Refuses operands of crossbar_mvm that are not dense CPU tensors [..., inputs] and [outputs, inputs].
void check_mvm_operands(const char* op, const at::Tensor& x, const at::Tensor& w);

/// Shape of the result: [..., outputs], with the chips in front where they are stacked.
std::vector<std::int64_t> mvm_shape(const CrossbarArgs& args, const at::Tensor& x, const at::Tensor& w);

/// [..., inputs] -> [batch, inputs]; view({-1, inputs}) would not know the batch of an empty tensor.
at::Tensor rows_of(const at::Tensor& x);

/// Type of the result of an op on x and w.
at::ScalarType result_type(const at::Tensor& x, const at::Tensor& w, bool integers);

}  // namespace cimq::ops
