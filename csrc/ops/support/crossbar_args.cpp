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
void check_columns(const char* op, const CrossbarCall& call, std::int64_t outputs, CrossbarArgs& args) {
  const std::int64_t lo_dims = call.adc_lo ? call.adc_lo->dim() : 1;
  const std::int64_t lsb_dims = call.adc_lsb ? call.adc_lsb->dim() : 1;
  if (lo_dims != 2 && lsb_dims != 2) return;
  const bool alike = call.adc_lo && call.adc_lsb && call.adc_lo->sizes() == call.adc_lsb->sizes();
  TORCH_CHECK_VALUE(alike, op, ": adc_lo and adc_lsb must have one shape, got ", shape_of(call.adc_lo), " and ",
                    shape_of(call.adc_lsb));
  const std::array<std::int64_t, 2> wanted{weight_slices(*args.hardware, args.options.weight_bits), outputs};
  TORCH_CHECK_VALUE(call.adc_lsb && call.adc_lsb->sizes() == at::IntArrayRef(wanted), op,
                    ": adc_lo and adc_lsb must be ", at::IntArrayRef(wanted),
                    ", one value per weight slice and output, or [", wanted[0], "], got shape ",
                    shape_of(call.adc_lsb));
  args.options.adc_columns = outputs;
}

}  // namespace

CrossbarArgs parse_call(const char* op, const CrossbarCall& call, std::int64_t outputs) {
  const auto in_range = [&](const char* name, std::int64_t value, std::int64_t lo, std::int64_t hi) {
    TORCH_CHECK_VALUE(value >= lo && value <= hi, op, ": ", name, " must be in ", lo, "..", hi, ", got ", value);
  };
  in_range("weight_bits", call.weight_bits, 1, 8);
  in_range("act_bits", call.act_bits, 1, 8);
  in_range("layer", call.layer, 0, std::numeric_limits<std::uint32_t>::max());
  in_range("first_access", call.first_access, 0, std::int64_t{1} << 48);
  in_range("chips", call.chips.value_or(1), 1, 1 << 20);
  TORCH_CHECK_VALUE(call.backend == "auto" || call.backend == "sliced" || call.backend == "reference_cpp", op,
                    ": backend must be auto, sliced, reference or reference_cpp, got ", call.backend);
  TORCH_CHECK_VALUE(call.adc_grad == "identity" || call.adc_grad == "clip", op,
                    ": adc_grad must be identity or clip, got ", call.adc_grad);
  CrossbarArgs args;
  args.clip = call.adc_grad == "clip";
  args.hardware = translate_errors(op, [&] { return cached_hardware(call.hardware); });
  args.chips = call.chips.value_or(1);
  args.stacked = call.chips.has_value();
  args.first_access = static_cast<std::uint64_t>(call.first_access);
  args.by_reference = call.backend == "reference_cpp";
  kernels::MvmOptions& options = args.options;
  options.weight_bits = static_cast<int>(call.weight_bits);
  options.act_bits = static_cast<int>(call.act_bits);
  options.act_signed = call.act_signed;
  options.seed = static_cast<std::uint64_t>(call.seed);
  options.layer = static_cast<std::uint32_t>(call.layer);
  options.chip = static_cast<std::uint32_t>(call.chip);
  options.first_output = call.first_output;
  options.allow_collapse = call.backend == "auto";
  const bool by_column = args.hardware->adc.granularity == AdcGranularity::kColumn;
  options.adc_lo = values_of<std::int32_t>(op, "adc_lo", call.adc_lo, at::kInt, by_column);
  options.adc_lsb = values_of<double>(op, "adc_lsb", call.adc_lsb, at::kDouble, by_column);
  check_columns(op, call, outputs, args);
  return args;
}

CrossbarArgs parse_conversions(const char* op, CrossbarCall& call, std::int64_t outputs) {
  call.backend = "sliced";
  CrossbarArgs args = parse_call(op, call, outputs);
  TORCH_CHECK_VALUE(args.hardware->adc.bits.has_value(), op,
                    ": needs a converter, but adc.bits of the hardware is null (ideal: the code is the current)");
  return args;
}

void check_mvm_operands(const char* op, const at::Tensor& x, const at::Tensor& w) {
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
