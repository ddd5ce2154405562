// Gradients of one matrix on crossbars that need to know what the converters did (docs/numbers.md, "Gradients").
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "common/hardware.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "ops/support/crossbar_call.h"

namespace cimq::ops {

/// What a backward op is to compute.
struct WantedGradients : WantedInputs {
  bool clip = false;  ///< adc_grad "clip": x and w see no partial sum whose code is clamped

  /// Whether the conversions have to be looked at.
  bool conversions() const { return adc_lsb || (clip && (x || w)); }
};

class MatrixBackward {
 public:
  /// @param w  int8 [outputs, inputs], contiguous; programmed as the forward did
  /// @param type  float or double: of the gradients
  MatrixBackward(const Hardware& hardware, const at::Tensor& w, const kernels::MvmOptions& options,
                 const WantedGradients& wanted, at::ScalarType type);

  /// Adds the gradients of rows of activations: x [rows, inputs] raw bytes, grad [rows, outputs] of the type.
  /// Row b is access first_access + b. dx [rows, inputs] is written where x is wanted, dw [outputs, inputs] and dlsb
  /// (like adc_lsb of the options: of all groups) are added to.
  void add(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
           std::vector<double>& dlsb, std::uint64_t first_access) const;

 private:
  void add_block(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                 std::vector<double>& dlsb, std::uint64_t first_access) const;
  void add_dense(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw) const;
  void add_clipped(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& pass, const at::Tensor& dx,
                   const at::Tensor& dw) const;
  /// step [n_w, rows, outputs]: the gradient of every column's step, rows in order.
  void add_column_steps(const at::Tensor& step, const at::Tensor& grad, std::vector<double>& dlsb) const;
  /// What slice s of one column contributes to the de-quantised weight, [outputs, inputs of the tile].
  at::Tensor slice_weights(int slice, int column, std::int64_t first, std::int64_t count) const;
  std::int64_t block_rows() const;

  at::Tensor w_;
  WantedGradients wanted_;
  at::ScalarType type_;
  std::int64_t columns_;       ///< of the layer's ranges; 0: one per slice
  std::int64_t first_column_;  ///< of this matrix among them
  kernels::MvmPlan plan_;
  std::shared_ptr<const kernels::cpu::CrossbarMvm> mvm_;  ///< null where no conversion can lose anything
};

}  // namespace cimq::ops
