#include "ops/support/checks.h"

#include <sstream>

namespace cimq::ops {

std::string describe(const at::Tensor& tensor) {
  std::ostringstream text;
  text << c10::toString(tensor.scalar_type()) << " " << tensor.sizes();
  return text.str();
}

void check_cpu(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(tensor.device().is_cpu() && tensor.layout() == at::kStrided, op, ": ", name,
                    " must be a dense CPU tensor, got device ", tensor.device().str(), " and layout ", tensor.layout());
}

void check_float(const char* op, const char* name, const at::Tensor& tensor) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, op, ": ", name, " must be float32, got ", describe(tensor));
}

void check_parameter(const char* op, const char* name, const std::optional<at::Tensor>& values, at::IntArrayRef shape) {
  const at::Tensor found = values.value_or(at::Tensor());
  if (!found.defined()) return;
  check_float(op, name, found);
  TORCH_CHECK_VALUE(found.sizes() == shape, op, ": ", name, " must have shape ", shape, ", got ", found.sizes());
}

}  // namespace cimq::ops
