#include "ops/support/matrix_backward.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <type_traits>

#include "kernels/cpu/convert/conversions.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kBlockValues = std::int64_t{1} << 23;  // of what the conversions of a block leave behind
constexpr std::int64_t kMinBlockRows = 16;
constexpr std::int64_t kMaxBlockRows = 2048;

}  // namespace

MatrixBackward::MatrixBackward(const Hardware& hardware, const at::Tensor& w, const kernels::MvmOptions& options,
                               const WantedGradients& wanted, at::ScalarType type)
    : w_(w),
      wanted_(wanted),
      type_(type),
      columns_(options.adc_columns),
      first_column_(options.first_output),
      plan_(kernels::make_mvm_plan(hardware, w.size(0), w.size(1), options)) {
  // A converter that loses nothing clips nothing, and its code is I / lsb: all masks are 1 and the step's gradient is
  // 0.
  if (plan_.ideal || plan_.lossless || !wanted.conversions()) return;
  kernels::MvmOptions sliced = options;
  sliced.allow_collapse = false;
  mvm_ = std::make_shared<const kernels::cpu::CrossbarMvm>(
      kernels::MvmProblem{hardware, w.const_data_ptr<std::int8_t>(), w.size(0), w.size(1), sliced});
}

std::int64_t MatrixBackward::block_rows() const {
  const std::int64_t per_row =
      plan_.outputs * plan_.n_w * (1 + plan_.row_tiles * kernels::converted_columns(plan_)) + plan_.inputs;
  return std::clamp(kBlockValues / per_row, kMinBlockRows, kMaxBlockRows);
}

void MatrixBackward::add(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                         std::vector<double>& dlsb, std::uint64_t first_access) const {
  const std::int64_t block = block_rows();
  for (std::int64_t begin = 0; begin < x.size(0); begin += block) {
    const std::int64_t end = std::min(begin + block, x.size(0));
    add_block(x.slice(0, begin, end), grad.slice(0, begin, end), wanted_.x ? dx.slice(0, begin, end) : dx, dw, dlsb,
              first_access + static_cast<std::uint64_t>(begin));
  }
}

void MatrixBackward::add_block(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                               std::vector<double>& dlsb, std::uint64_t first_access) const {
  if (mvm_ == nullptr) {
    add_dense(x, grad, dx, dw);
    return;
  }
  const std::int64_t rows = x.size(0);
  const bool masks = wanted_.clip && (wanted_.x || wanted_.w);
  const auto options = grad.options().dtype(at::kFloat);
  at::Tensor pass;
  at::Tensor step;
  kernels::ConversionShares shares;
  shares.rows = rows;
  if (masks) {
    pass = at::empty({plan_.row_tiles, kernels::converted_columns(plan_), plan_.n_w, rows, plan_.outputs}, options);
    shares.pass = pass.mutable_data_ptr<float>();
  }
  if (wanted_.adc_lsb) {
    step = at::empty({plan_.n_w, rows, plan_.outputs}, options);
    shares.step = step.mutable_data_ptr<float>();
  }
  const auto* bytes = static_cast<const std::uint8_t*>(x.const_data_ptr());
  at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
    kernels::cpu::shares_of_conversions(*mvm_, bytes, begin, end, shares, first_access);
  });
  if (masks) {
    add_clipped(x, grad, pass, dx, dw);
  } else {
    add_dense(x, grad, dx, dw);
  }
  if (!wanted_.adc_lsb) return;
  if (plan_.by_column()) {
    add_column_steps(step, grad, dlsb);
    return;
  }
  // Row by row, so that the sum does not depend on the number of threads.
  const at::Tensor terms = step.to(at::kDouble).mul_(grad.to(at::kDouble)).sum(2);
  const auto* sums = terms.const_data_ptr<double>();
  for (int s = 0; s < plan_.n_w; ++s) {
    const double sum = std::accumulate(sums + s * rows, sums + (s + 1) * rows, 0.0);
    const auto weight = static_cast<double>(plan_.slices[static_cast<std::size_t>(s)].weight);
    dlsb[static_cast<std::size_t>(s)] += weight * sum;
  }
}

void MatrixBackward::add_column_steps(const at::Tensor& step, const at::Tensor& grad, std::vector<double>& dlsb) const {
  const at::Tensor terms = step.to(at::kDouble).mul_(grad.to(at::kDouble));  // [n_w, rows, outputs]
  const auto* term = terms.const_data_ptr<double>();
  const std::int64_t rows = grad.size(0);
  for (int s = 0; s < plan_.n_w; ++s) {
    const auto weight = static_cast<double>(plan_.slices[static_cast<std::size_t>(s)].weight);
    double* sums = dlsb.data() + s * columns_ + first_column_;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t o = 0; o < plan_.outputs; ++o) sums[o] += weight * *term++;
    }
  }
}

void MatrixBackward::add_dense(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx,
                               const at::Tensor& dw) const {
  if (wanted_.x) dx.copy_(at::mm(grad, w_.to(type_)));
  if (wanted_.w) dw.addmm_(grad.t(), x.to(type_));
}

at::Tensor MatrixBackward::slice_weights(int slice, int column, std::int64_t first, std::int64_t count) const {
  // What a weight puts into this slice, for every int8.
  std::array<double, 256> worth{};
  const std::int64_t weight = plan_.slices[static_cast<std::size_t>(slice)].weight;
  const std::int32_t top = largest_weight(plan_.weight_bits);
  const bool pairs = plan_.mapping != Mapping::kOffset;
  for (std::int32_t w = -top; w <= top; ++w) {
    std::int64_t level = column == 0 ? kernels::cell_level(plan_, w, slice, 0) : 0;
    if (pairs && (column == 1 || !plan_.separate_columns)) level -= kernels::cell_level(plan_, w, slice, 1);
    worth[static_cast<std::uint8_t>(w)] = static_cast<double>(weight * level);
  }
  at::Tensor weights = at::empty({plan_.outputs, count}, w_.options().dtype(type_));
  const auto* source = w_.const_data_ptr<std::int8_t>();
  const auto fill = [&](auto* target) {
    for (std::int64_t o = 0; o < plan_.outputs; ++o) {
      const std::int8_t* row = source + o * plan_.inputs + first;
      for (std::int64_t k = 0; k < count; ++k) {
        *target++ = static_cast<std::remove_reference_t<decltype(*target)>>(worth[static_cast<std::uint8_t>(row[k])]);
      }
    }
  };
  if (type_ == at::kDouble) {
    fill(weights.mutable_data_ptr<double>());
  } else {
    fill(weights.mutable_data_ptr<float>());
  }
  return weights;
}

void MatrixBackward::add_clipped(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& pass,
                                 const at::Tensor& dx, const at::Tensor& dw) const {
  const int columns = kernels::converted_columns(plan_);
  double all = 0.0;
  for (const kernels::SlicePlan& slice : plan_.slices) all += static_cast<double>(slice.weight);
  const at::Tensor applied = x.to(type_).add_(plan_.input_shift);
  const at::Tensor sum_of_outputs = grad.sum(0).unsqueeze(1);
  for (std::int64_t t = 0; t < plan_.row_tiles; ++t) {
    const std::int64_t first = t * plan_.inputs_per_tile;
    const std::int64_t count = std::min(plan_.inputs_per_tile, plan_.inputs - first);
    at::Tensor dx_tile;
    // The offset of the weights comes off digitally, whatever the converter did.
    if (wanted_.x) {
      dx_tile = at::zeros({x.size(0), count}, grad.options());
      if (plan_.weight_shift != 0) dx_tile.sub_(grad.sum(1, true), plan_.weight_shift);
    }
    std::vector<at::Tensor> dw_columns;
    for (int column = 0; column < columns; ++column) {
      at::Tensor through_slices = at::zeros_like(grad);
      for (int s = 0; s < plan_.n_w; ++s) {
        const at::Tensor passing = pass.select(0, t).select(0, column).select(0, s).to(type_).mul_(grad);
        if (wanted_.x) dx_tile.addmm_(passing, slice_weights(s, column, first, count));
        if (wanted_.w) {
          through_slices.add_(passing, static_cast<double>(plan_.slices[static_cast<std::size_t>(s)].weight) / all);
        }
      }
      if (wanted_.w) dw_columns.push_back(at::mm(through_slices.t(), applied.slice(1, first, first + count)));
    }
    if (wanted_.x) dx.slice(1, first, first + count).copy_(dx_tile);
    if (!wanted_.w) continue;
    at::Tensor found = dw_columns.front();
    if (columns == 2) {
      // A weight moves the column that it is stored in; one of zero, half of each.
      const at::Tensor w = w_.slice(1, first, first + count);
      const at::Tensor half = dw_columns[0].add(dw_columns[1]).mul_(0.5);
      found = at::where(w.gt(0), dw_columns[0], at::where(w.lt(0), dw_columns[1], half));
    }
    // The shift of the activations times the weights comes off digitally.
    if (plan_.input_shift != 0) found = found.sub(sum_of_outputs, plan_.input_shift);
    dw.slice(1, first, first + count).add_(found);
  }
}

}  // namespace cimq::ops
