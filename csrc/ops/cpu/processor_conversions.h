// Conversions as the kernels of the processor find them, for the backward operators.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "ops/support/crossbar_backward.h"

namespace cimq::ops {

class ProcessorConversions final : public ConversionSource {
 public:
  /// w: int8 of all groups, contiguous, of `groups` matrices; programmed as the forward did.
  ProcessorConversions(const CrossbarArgs& args, const at::Tensor& w, std::int64_t groups);

  void shares(const at::Tensor& x, const at::Tensor& pass, const at::Tensor& step,
              std::uint64_t first_access) const override;
  at::Tensor worth() const override;

  /// What makes them, chip by chip.
  static ConversionsOfChip of(const at::Tensor& w, std::int64_t groups) {
    return [w, groups](const CrossbarArgs& args) { return std::make_unique<ProcessorConversions>(args, w, groups); };
  }

 private:
  std::vector<kernels::cpu::CrossbarMvm> groups_;
};

}  // namespace cimq::ops
