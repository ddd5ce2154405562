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

}  // namespace cimq::ops
