#include "ops/softmax.h"

#include <torch/library.h>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "softmax";

}  // namespace

at::Tensor softmax(const at::Tensor& x, std::int64_t dim, bool logarithm) {
  static const auto kOp = typed_op<decltype(softmax)>("cimq::softmax");
  return kOp.call(x, dim, logarithm);
}

void check_softmax(const at::Tensor& x, std::int64_t dim) {
  check_float(kName, "x", x);
  TORCH_CHECK_VALUE(x.dim() >= 1 && dim >= -x.dim() && dim < x.dim(), kName, ": dim must be a dimension of x, got ",
                    dim, " for shape ", x.sizes());
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("softmax(Tensor x, int dim, bool logarithm=False) -> Tensor"); }
