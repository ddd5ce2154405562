#include "ops/cpu/processor_conversions.h"

#include <ATen/Parallel.h>
#include <ATen/ops/tensor.h>
#include <c10/util/accumulate.h>

#include "kernels/cpu/convert/conversions.h"

namespace cimq::ops {

ProcessorConversions::ProcessorConversions(const CrossbarArgs& args, const at::Tensor& w, std::int64_t groups) {
  kernels::MvmOptions options = args.options;
  options.allow_collapse = false;
  const std::int64_t outputs = w.size(0) / groups;
  const std::int64_t inputs = c10::multiply_integers(w.sizes().slice(1));
  for (std::int64_t group = 0; group < groups; ++group) {
    options.first_output = args.options.first_output + group * outputs;
    groups_.emplace_back(kernels::MvmProblem{*args.hardware, w.const_data_ptr<std::int8_t>() + group * outputs * inputs,
                                             outputs, inputs, options});
  }
}

void ProcessorConversions::shares(const at::Tensor& x, const at::Tensor& pass, const at::Tensor& step,
                                  std::uint64_t first_access) const {
  const std::int64_t rows = x.size(1);
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    const auto index = static_cast<std::int64_t>(group);
    kernels::ConversionShares shares;
    shares.rows = rows;
    if (pass.defined()) shares.pass = pass.select(0, index).mutable_data_ptr<float>();
    if (step.defined()) shares.step = step.select(0, index).mutable_data_ptr<float>();
    const at::Tensor own = x.select(0, index);
    const auto* bytes = static_cast<const std::uint8_t*>(own.const_data_ptr());
    at::parallel_for(0, rows, 1, [&](std::int64_t begin, std::int64_t end) {
      kernels::cpu::shares_of_conversions(groups_[group], bytes, begin, end, shares, first_access);
    });
  }
}

at::Tensor ProcessorConversions::worth() const {
  return at::tensor(slice_worth(groups_.front().plan()), at::kDouble).view({-1, 256});
}

}  // namespace cimq::ops
