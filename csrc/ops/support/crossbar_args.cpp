#include "ops/support/crossbar_args.h"

#include <array>
#include <limits>
#include <string>
#include <vector>

#include "common/mapping.h"
#include "ops/support/checks.h"
#include "ops/support/hardware_cache.h"

namespace cimq::ops {
namespace {

template <typename T>
std::vector<T> values_of(const char* op, const char* name, const std::optional<at::Tensor>& tensor, at::ScalarType type,
                         bool by_column) {
  if (!tensor.has_value()) return {};
  check_cpu(op, name, *tensor);
  TORCH_CHECK_VALUE(tensor->dim() == 1 || (by_column && tensor->dim() == 2), op, ": ", name,
                    " must have one value per weight slice", by_column ? ", or [slices, outputs]" : "", ", got shape ",
                    tensor->sizes(),
                    by_column || tensor->dim() != 2 ? "" : "; a range per column needs adc.granularity column");
  if (type == at::kInt) {
    TORCH_CHECK_TYPE(at::isIntegralType(tensor->scalar_type(), false), op, ": ", name,
                     " must be an integer tensor (level units), got ", describe(*tensor));
  } else {
    TORCH_CHECK_TYPE(tensor->is_floating_point(), op, ": ", name,
                     " must be a floating-point tensor (level units), got ", describe(*tensor));
  }
  const at::Tensor converted = tensor->to(type).contiguous();
  const T* data = converted.const_data_ptr<T>();
  return {data, data + converted.numel()};
}

std::string shape_of(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? c10::str(tensor->sizes()) : "None";
}

/// Ranges per column: their shapes, and how many there are.
void check_columns(const char* op, const CrossbarRequest& request, CrossbarArgs& args) {
  const std::int64_t lo_dims = request.adc_lo ? request.adc_lo->dim() : 1;
  const std::int64_t lsb_dims = request.adc_lsb ? request.adc_lsb->dim() : 1;
  if (lo_dims != 2 && lsb_dims != 2) return;
  const bool alike = request.adc_lo && request.adc_lsb && request.adc_lo->sizes() == request.adc_lsb->sizes();
  TORCH_CHECK_VALUE(alike, op, ": adc_lo and adc_lsb must have one shape, got ", shape_of(request.adc_lo), " and ",
                    shape_of(request.adc_lsb));
  const std::array<std::int64_t, 2> wanted{weight_slices(*args.hardware, args.options.weight_bits), request.outputs};
  TORCH_CHECK_VALUE(request.adc_lsb && request.adc_lsb->sizes() == at::IntArrayRef(wanted), op,
                    ": adc_lo and adc_lsb must be ", at::IntArrayRef(wanted),
                    ", one value per weight slice and output, or [", wanted[0], "], got shape ",
                    shape_of(request.adc_lsb));
  args.options.adc_columns = request.outputs;
}

}  // namespace

CrossbarArgs parse_request(const char* op, const CrossbarRequest& request) {
  const auto in_range = [&](const char* name, std::int64_t value, std::int64_t lo, std::int64_t hi) {
    TORCH_CHECK_VALUE(value >= lo && value <= hi, op, ": ", name, " must be in ", lo, "..", hi, ", got ", value);
  };
  in_range("weight_bits", request.weight_bits, 1, 8);
  in_range("act_bits", request.act_bits, 1, 8);
  in_range("layer", request.layer, 0, std::numeric_limits<std::uint32_t>::max());
  in_range("first_access", request.first_access, 0, std::int64_t{1} << 48);
  in_range("chips", request.chips.value_or(1), 1, 1 << 20);
  TORCH_CHECK_VALUE(request.backend == "auto" || request.backend == "sliced" || request.backend == "reference_cpp", op,
                    ": backend must be auto, sliced, reference or reference_cpp, got ", request.backend);
  TORCH_CHECK_VALUE(request.adc_grad == "identity" || request.adc_grad == "clip", op,
                    ": adc_grad must be identity or clip, got ", request.adc_grad);
  CrossbarArgs args;
  args.clip = request.adc_grad == "clip";
  args.hardware = translate_errors(op, [&] { return cached_hardware(request.hardware); });
  args.chips = request.chips.value_or(1);
  args.stacked = request.chips.has_value();
  args.first_access = static_cast<std::uint64_t>(request.first_access);
  args.by_reference = request.backend == "reference_cpp";
  kernels::MvmOptions& options = args.options;
  options.weight_bits = static_cast<int>(request.weight_bits);
  options.act_bits = static_cast<int>(request.act_bits);
  options.act_signed = request.act_signed;
  options.seed = static_cast<std::uint64_t>(request.seed);
  options.layer = static_cast<std::uint32_t>(request.layer);
  options.allow_collapse = request.backend == "auto";
  const bool by_column = args.hardware->adc.granularity == AdcGranularity::kColumn;
  options.adc_lo = values_of<std::int32_t>(op, "adc_lo", request.adc_lo, at::kInt, by_column);
  options.adc_lsb = values_of<double>(op, "adc_lsb", request.adc_lsb, at::kDouble, by_column);
  check_columns(op, request, args);
  return args;
}

void CrossbarArgs::add_to(ProgramKey& key, const std::string& hardware_json) const {
  key.add_bytes(hardware_json.data(), hardware_json.size());
  key.add(options.weight_bits);
  key.add(options.act_bits);
  key.add(options.act_signed);
  key.add(options.seed);
  key.add(options.chip);
  key.add(options.layer);
  key.add(options.allow_collapse);
  key.add(options.adc_columns);
  key.add_bytes(options.adc_lo.data(), options.adc_lo.size() * sizeof(std::int32_t));
  key.add_bytes(options.adc_lsb.data(), options.adc_lsb.size() * sizeof(double));
}

void check_mvm_operands(const char* op, const at::Tensor& x, const at::Tensor& w) {
  check_cpu(op, "x_q", x);
  check_cpu(op, "w_q", w);
  TORCH_CHECK_VALUE(w.dim() == 2, op, ": w_q must be [outputs, inputs], got shape ", w.sizes());
  TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == w.size(1), op, ": x_q must be [..., ", w.size(1), "] for w_q ",
                    w.sizes(), ", got shape ", x.sizes());
}

std::vector<std::int64_t> mvm_shape(const CrossbarArgs& args, const at::Tensor& x, const at::Tensor& w) {
  std::vector<std::int64_t> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = w.size(0);
  if (args.stacked) shape.insert(shape.begin(), args.chips);
  return shape;
}

at::Tensor rows_of(const at::Tensor& x) {
  std::int64_t batch = 1;
  for (std::int64_t d = 0; d < x.dim() - 1; ++d) batch *= x.size(d);
  return x.view({batch, x.size(-1)});
}

at::ScalarType result_type(const at::Tensor& x, const at::Tensor& w, bool integers) {
  if (x.scalar_type() == at::kDouble || w.scalar_type() == at::kDouble) return at::kDouble;
  if (x.is_floating_point() || w.is_floating_point()) return at::kFloat;
  return integers ? at::kInt : at::kFloat;
}

}  // namespace cimq::ops
