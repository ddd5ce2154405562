#include "ops/checks.h"

#include <c10/core/GradMode.h>

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

void refuse_gradient(const char* op, const char* name, const std::optional<at::Tensor>& tensor) {
  const bool wanted = tensor.has_value() && tensor->requires_grad() && c10::GradMode::is_enabled();
  TORCH_CHECK_NOT_IMPLEMENTED(!wanted, op, ": there is no gradient for ", name, " yet; detach it");
}

}  // namespace cimq::ops
