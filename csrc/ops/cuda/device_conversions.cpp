#include "ops/cuda/device_conversions.h"

#include <c10/util/accumulate.h>

#include <utility>

#include "kernels/cuda/conversions.h"

namespace cimq::ops {

ConversionLayer::ConversionLayer(const std::vector<kernels::MvmProblem>& groups)
    : layer(groups, 1, kernels::cuda::Programming::kOnDevice) {
  const std::vector<double> values = slice_worth(layer.plan());
  worth_bytes = values.size() * sizeof(double);
  worth = layer.append(values.data(), worth_bytes);
}

std::shared_ptr<const DeviceLayer<ConversionLayer>> conversion_layer(const char* op, CrossbarCall call,
                                                                     const CrossbarArgs& args, const at::Tensor& w,
                                                                     std::int64_t groups) {
  static auto& cache =
      listed_cache<ProgramCache<DeviceLayer<ConversionLayer>>>("device_crossbar_conversions", kDeviceLayerLimits);
  call.backend = "sliced";  // operators that are asked in different ways share a layer
  const std::int64_t outputs = w.size(0) / groups;
  const std::int64_t inputs = c10::multiply_integers(w.sizes().slice(1));
  const auto add_shape = [&](ProgramKey& key) {
    key.add(groups);
    key.add(outputs);
    key.add(inputs);
  };
  return device_layer(cache, op, call, args, w, add_shape, [&] {
    kernels::MvmOptions options = args.options;
    options.allow_collapse = false;
    std::vector<kernels::MvmProblem> problems;
    for (std::int64_t group = 0; group < groups; ++group) {
      options.first_output = args.options.first_output + group * outputs;
      problems.push_back({*args.hardware, nullptr, outputs, inputs, options});
    }
    return ConversionLayer(problems);
  });
}

DeviceConversions::DeviceConversions(const DeviceCall& call, const CrossbarArgs& args, const at::Tensor& w,
                                     std::shared_ptr<const DeviceLayer<ConversionLayer>> layer)
    : call_(call),
      layer_(std::move(layer)),
      accesses_(accesses_of(args)),
      programmer_(call, args, layer_->matrices(), layer_->constants, layer_->tables, w),
      image_(programmer_.program(static_cast<int>(args.options.chip), 1)) {}

void DeviceConversions::shares(const at::Tensor& x, const at::Tensor& pass, const at::Tensor& step,
                               std::uint64_t first_access) const {
  kernels::ConversionShares shares;
  shares.rows = x.size(1);
  if (pass.defined()) shares.pass = pass.mutable_data_ptr<float>();
  if (step.defined()) shares.step = step.mutable_data_ptr<float>();
  const auto* bytes = static_cast<const std::uint8_t*>(x.const_data_ptr());
  kernels::cuda::Accesses accesses = accesses_;
  accesses.first = first_access;
  call_.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::shares_of_conversions(layer_->matrices(), image_, bytes, shares, accesses, stream);
  });
}

at::Tensor DeviceConversions::worth() const {
  const auto begin = static_cast<std::int64_t>(layer_->layer.worth);
  const auto bytes = static_cast<std::int64_t>(layer_->layer.worth_bytes);
  return DeviceConstants::tensor(layer_->constants).slice(0, begin, begin + bytes).view(at::kDouble).view({-1, 256});
}

ConversionsOfChip conversions_on_device(const char* op, const DeviceCall& device, const CrossbarCall& call,
                                        const at::Tensor& w, std::int64_t groups) {
  return [op, &device, &call, &w, groups](const CrossbarArgs& args) {
    return std::make_unique<DeviceConversions>(device, args, w, conversion_layer(op, call, args, w, groups));
  };
}

}  // namespace cimq::ops
