// Gradients of matrices on crossbars that need to know what the converters did (docs/numbers.md, "Gradients"). What the
// converters did comes from the kernels of a device; everything else is plain ATen, on the device of the tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/plan/mvm_plan.h"
#include "ops/support/crossbar_call.h"

namespace cimq::ops {

/// What a backward op is to compute.
struct WantedGradients : WantedInputs {
  bool clip = false;  ///< adc_grad "clip": x and w see no partial sum whose code is clamped

  /// Whether the conversions have to be looked at.
  bool conversions() const { return adc_lsb || (clip && (x || w)); }
};

/// The conversions of the matrices of one layer on one chip.
class ConversionSource {
 public:
  ConversionSource() = default;
  ConversionSource(const ConversionSource&) = delete;
  ConversionSource& operator=(const ConversionSource&) = delete;
  virtual ~ConversionSource() = default;

  /// Fills kernels::ConversionShares of rows of activations x [groups, rows, inputs], raw bytes; row b is access
  /// first_access + b. pass [groups, row_tiles, columns, n_w, rows, outputs] and step [groups, n_w, rows, outputs],
  /// float32; an undefined one is left out.
  virtual void shares(const at::Tensor& x, const at::Tensor& pass, const at::Tensor& step,
                      std::uint64_t first_access) const = 0;
  /// slice_worth() on the device of the tensors, double.
  virtual at::Tensor worth() const = 0;
};

using MakeConversionSource = std::function<std::unique_ptr<ConversionSource>()>;

/// What a weight puts into a column of a slice, times the slice's weight: [n_w][columns][256], by the bits of the
/// weight. `columns`: of a pair that are converted on their own; else the second is subtracted.
std::vector<double> slice_worth(const kernels::MvmPlan& plan);

class MatrixBackward {
 public:
  /// @param plan  of the first group; the others differ in the ranges of their columns alone
  /// @param w  bytes [groups, outputs, inputs], contiguous; programmed as the forward did
  /// @param type  float or double: of the gradients
  /// @param source  made where a conversion can lose anything that is asked for
  MatrixBackward(const kernels::MvmPlan& plan, const kernels::MvmOptions& options, const at::Tensor& w,
                 const WantedGradients& wanted, at::ScalarType type, const MakeConversionSource& source);

  /// Adds the gradients of rows of activations: x [groups, rows, inputs] raw bytes, grad [groups, rows, outputs] of the
  /// type. Row b is access first_access + b. dx [groups, rows, inputs] is written where x is wanted, dw [groups,
  /// outputs, inputs] and dlsb (doubles, like adc_lsb of the options: of all groups) are added to.
  void add(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
           const at::Tensor& dlsb, std::uint64_t first_access) const;

 private:
  void add_block(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                 const at::Tensor& dlsb, std::uint64_t first_access) const;
  void add_dense(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw) const;
  void add_clipped(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& pass, const at::Tensor& dx,
                   const at::Tensor& dw) const;
  /// step [groups, n_w, rows, outputs]: the gradients of steps, rows in order.
  void add_steps(const at::Tensor& step, const at::Tensor& grad, const at::Tensor& dlsb) const;
  /// What slice s of one column contributes to the de-quantised weight, [groups, outputs, inputs of the tile].
  at::Tensor slice_weights(int slice, int column, std::int64_t first, std::int64_t count) const;
  std::int64_t block_rows() const;
  double slice_weight(int slice) const;

  kernels::MvmPlan plan_;
  at::Tensor w_;
  WantedGradients wanted_;
  at::ScalarType type_;
  std::int64_t columns_;                      ///< of the layer's ranges; 0: one per slice
  std::int64_t first_column_;                 ///< of these matrices among them
  std::unique_ptr<ConversionSource> source_;  ///< null where no conversion can lose anything
  at::Tensor worth_;                          ///< of source_, [n_w * columns, 256] of the type
  at::Tensor values_;                         ///< on other devices than the CPU: where in worth_ the weights are
};

}  // namespace cimq::ops
