#include "ops/support/matrix_backward.h"

#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <numeric>

#include "kernels/conversions.h"

namespace cimq::ops {
namespace {

/// Of what the conversions of a block leave behind.
struct BlockLimits {
  std::int64_t values;
  std::int64_t fewest_rows;
  std::int64_t most_rows;
};
constexpr BlockLimits kOnProcessor{std::int64_t{1} << 23, 16, 2048};
constexpr BlockLimits kOnDevice{std::int64_t{1} << 26, 64, std::int64_t{1} << 16};

// One matrix is no batch of matrices: libraries have quicker products for it.

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  return a.size(0) == 1 ? at::mm(a.select(0, 0), b.select(0, 0)).unsqueeze(0) : at::bmm(a, b);
}

void add_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (a.size(0) == 1) {
    sum.select(0, 0).addmm_(a.select(0, 0), b.select(0, 0));
  } else {
    sum.baddbmm_(a, b);
  }
}

at::Tensor transposed(const at::Tensor& a) { return a.transpose(1, 2); }

}  // namespace

std::vector<double> slice_worth(const kernels::MvmPlan& plan) {
  constexpr std::size_t kBytes = 256;
  const int columns = kernels::converted_columns(plan);
  std::vector<double> worth(kBytes * static_cast<std::size_t>(plan.n_w * columns));
  const std::int32_t top = largest_weight(plan.weight_bits);
  const bool pairs = plan.mapping != Mapping::kOffset;
  for (int s = 0; s < plan.n_w; ++s) {
    for (int column = 0; column < columns; ++column) {
      double* const of_column = worth.data() + kBytes * static_cast<std::size_t>(s * columns + column);
      for (std::int32_t w = -top; w <= top; ++w) {
        std::int64_t level = column == 0 ? kernels::cell_level(plan, w, s, 0) : 0;
        if (pairs && (column == 1 || !plan.separate_columns)) level -= kernels::cell_level(plan, w, s, 1);
        of_column[static_cast<std::uint8_t>(w)] =
            static_cast<double>(plan.slices[static_cast<std::size_t>(s)].weight * level);
      }
    }
  }
  return worth;
}

MatrixBackward::MatrixBackward(const kernels::MvmPlan& plan, const kernels::MvmOptions& options, const at::Tensor& w,
                               const WantedGradients& wanted, at::ScalarType type, const MakeConversionSource& source)
    : plan_(plan),
      w_(w),
      wanted_(wanted),
      type_(type),
      columns_(options.adc_columns),
      first_column_(options.first_output) {
  // A converter that loses nothing clips nothing, and its code is I / lsb: all masks are 1 and the step's gradient is
  // 0.
  if (plan_.ideal || plan_.lossless || !wanted.conversions()) return;
  source_ = source();
  worth_ = source_->worth().to(type_);
  if (!w_.is_cpu()) values_ = w_.view(at::kByte).to(at::kInt);
}

double MatrixBackward::slice_weight(int slice) const {
  return static_cast<double>(plan_.slices[static_cast<std::size_t>(slice)].weight);
}

std::int64_t MatrixBackward::block_rows() const {
  const std::int64_t per_row =
      plan_.outputs * plan_.n_w * (1 + plan_.row_tiles * kernels::converted_columns(plan_)) + plan_.inputs;
  const BlockLimits& limits = w_.is_cpu() ? kOnProcessor : kOnDevice;
  return std::clamp(limits.values / (per_row * w_.size(0)), limits.fewest_rows, limits.most_rows);
}

void MatrixBackward::add(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                         const at::Tensor& dlsb, std::uint64_t first_access) const {
  const std::int64_t block = block_rows();
  for (std::int64_t begin = 0; begin < x.size(1); begin += block) {
    const std::int64_t end = std::min(begin + block, x.size(1));
    add_block(x.slice(1, begin, end), grad.slice(1, begin, end), wanted_.x ? dx.slice(1, begin, end) : dx, dw, dlsb,
              first_access + static_cast<std::uint64_t>(begin));
  }
}

void MatrixBackward::add_block(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx, const at::Tensor& dw,
                               const at::Tensor& dlsb, std::uint64_t first_access) const {
  if (source_ == nullptr) {
    add_dense(x, grad, dx, dw);
    return;
  }
  const std::int64_t groups = x.size(0);
  const std::int64_t rows = x.size(1);
  const bool masks = wanted_.clip && (wanted_.x || wanted_.w);
  const auto options = grad.options().dtype(at::kFloat);
  at::Tensor pass;
  at::Tensor step;
  if (masks) {
    pass = at::empty({groups, plan_.row_tiles, kernels::converted_columns(plan_), plan_.n_w, rows, plan_.outputs},
                     options);
  }
  if (wanted_.adc_lsb) step = at::empty({groups, plan_.n_w, rows, plan_.outputs}, options);
  source_->shares(x.contiguous(), pass, step, first_access);
  if (masks) {
    add_clipped(x, grad, pass, dx, dw);
  } else {
    add_dense(x, grad, dx, dw);
  }
  if (wanted_.adc_lsb) add_steps(step, grad, dlsb);
}

void MatrixBackward::add_steps(const at::Tensor& step, const at::Tensor& grad, const at::Tensor& dlsb) const {
  const at::Tensor terms = step.to(at::kDouble).mul_(grad.to(at::kDouble).unsqueeze(1));
  const std::int64_t groups = grad.size(0);
  const std::int64_t rows = grad.size(1);
  if (!terms.is_cpu()) {
    // The device adds up in an order that depends on the sizes alone.
    if (plan_.by_column()) {
      const at::Tensor sums = terms.sum(2).transpose(0, 1).reshape({plan_.n_w, groups * plan_.outputs});
      const at::Tensor target =
          dlsb.view({plan_.n_w, columns_}).slice(1, first_column_, first_column_ + groups * plan_.outputs);
      for (int s = 0; s < plan_.n_w; ++s) target.select(0, s).add_(sums.select(0, s), slice_weight(s));
      return;
    }
    const at::Tensor sums = terms.sum({0, 2, 3});
    for (int s = 0; s < plan_.n_w; ++s) dlsb.select(0, s).add_(sums.select(0, s), slice_weight(s));
    return;
  }
  // Row by row, so that the sums do not depend on the number of threads.
  auto* const found = dlsb.mutable_data_ptr<double>();
  if (plan_.by_column()) {
    const auto* term = terms.const_data_ptr<double>();
    for (std::int64_t group = 0; group < groups; ++group) {
      for (int s = 0; s < plan_.n_w; ++s) {
        double* const sums = found + s * columns_ + first_column_ + group * plan_.outputs;
        for (std::int64_t row = 0; row < rows; ++row) {
          for (std::int64_t o = 0; o < plan_.outputs; ++o) sums[o] += slice_weight(s) * *term++;
        }
      }
    }
    return;
  }
  const at::Tensor of_rows = terms.sum(3);
  const auto* sums = of_rows.const_data_ptr<double>();
  for (std::int64_t group = 0; group < groups; ++group) {
    for (int s = 0; s < plan_.n_w; ++s, sums += rows) {
      found[s] += slice_weight(s) * std::accumulate(sums, sums + rows, 0.0);
    }
  }
}

void MatrixBackward::add_dense(const at::Tensor& x, const at::Tensor& grad, const at::Tensor& dx,
                               const at::Tensor& dw) const {
  if (wanted_.x) dx.copy_(product(grad, w_.to(type_)));
  if (wanted_.w) add_product(dw, transposed(grad), x.to(type_));
}

at::Tensor MatrixBackward::slice_weights(int slice, int column, std::int64_t first, std::int64_t count) const {
  const at::Tensor worth = worth_.select(0, slice * kernels::converted_columns(plan_) + column);
  const std::int64_t groups = w_.size(0);
  if (!w_.is_cpu()) {
    const at::Tensor values = values_.slice(2, first, first + count).reshape(-1);
    return at::index_select(worth, 0, values).view({groups, plan_.outputs, count});
  }
  at::Tensor weights = at::empty({groups, plan_.outputs, count}, worth.options());
  const auto* source = static_cast<const std::uint8_t*>(w_.const_data_ptr());
  const auto fill = [&]<typename T>(T* target) {
    const T* of_value = worth.const_data_ptr<T>();
    for (std::int64_t o = 0; o < groups * plan_.outputs; ++o) {
      const std::uint8_t* row = source + o * plan_.inputs + first;
      for (std::int64_t k = 0; k < count; ++k) *target++ = of_value[row[k]];
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
  for (int s = 0; s < plan_.n_w; ++s) all += slice_weight(s);
  const at::Tensor applied = x.to(type_).add_(plan_.input_shift);
  const at::Tensor sum_of_rows = grad.sum(1).unsqueeze(2);
  for (std::int64_t t = 0; t < plan_.row_tiles; ++t) {
    const std::int64_t first = t * plan_.inputs_per_tile;
    const std::int64_t count = std::min(plan_.inputs_per_tile, plan_.inputs - first);
    at::Tensor dx_tile;
    // The offset of the weights comes off digitally, whatever the converter did.
    if (wanted_.x) {
      dx_tile = at::zeros({x.size(0), x.size(1), count}, grad.options());
      if (plan_.weight_shift != 0) dx_tile.sub_(grad.sum(2, true), plan_.weight_shift);
    }
    std::vector<at::Tensor> dw_columns;
    for (int column = 0; column < columns; ++column) {
      at::Tensor through_slices = at::zeros_like(grad);
      for (int s = 0; s < plan_.n_w; ++s) {
        const at::Tensor passing = pass.select(1, t).select(1, column).select(1, s).to(type_).mul_(grad);
        if (wanted_.x) add_product(dx_tile, passing, slice_weights(s, column, first, count));
        if (wanted_.w) through_slices.add_(passing, slice_weight(s) / all);
      }
      if (wanted_.w) dw_columns.push_back(product(transposed(through_slices), applied.slice(2, first, first + count)));
    }
    if (wanted_.x) dx.slice(2, first, first + count).copy_(dx_tile);
    if (!wanted_.w) continue;
    at::Tensor found = dw_columns.front();
    if (columns == 2) {
      // A weight moves the column that it is stored in; one of zero, half of each.
      const at::Tensor w = w_.slice(2, first, first + count);
      const at::Tensor half = dw_columns[0].add(dw_columns[1]).mul_(0.5);
      found = at::where(w.gt(0), dw_columns[0], at::where(w.lt(0), dw_columns[1], half));
    }
    // The shift of the activations times the weights comes off digitally.
    if (plan_.input_shift != 0) found = found.sub(sum_of_rows, plan_.input_shift);
    dw.slice(2, first, first + count).add_(found);
  }
}

}  // namespace cimq::ops
