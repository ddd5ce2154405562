#include "ops/mean.h"

#include <torch/library.h>

#include <algorithm>

#include "ops/support/checks.h"
#include "ops/support/dispatch.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = "mean";

}  // namespace

at::Tensor mean(const at::Tensor& x, at::IntArrayRef dim, bool keepdim) {
  static const auto kOp = typed_op<decltype(mean)>("cimq::mean");
  return kOp.call(x, dim, keepdim);
}

std::vector<std::int64_t> mean_dims(at::IntArrayRef dims, std::int64_t rank) {
  TORCH_CHECK_VALUE(!dims.empty(), kName, ": dim must name a dimension");
  std::vector<std::int64_t> result;
  for (const std::int64_t dim : dims) {
    TORCH_CHECK_VALUE(dim >= -rank && dim < rank, kName, ": dim must be in ", -rank, " .. ", rank - 1, ", got ", dim);
    result.push_back(dim < 0 ? dim + rank : dim);
  }
  std::sort(result.begin(), result.end());
  TORCH_CHECK_VALUE(std::adjacent_find(result.begin(), result.end()) == result.end(), kName,
                    ": dim must not name a dimension twice, got ", dims);
  return result;
}

std::vector<std::int64_t> mean_shape(const at::Tensor& x, const std::vector<std::int64_t>& dims, bool keepdim) {
  std::vector<std::int64_t> shape;
  for (std::int64_t i = 0; i < x.dim(); ++i) {
    const bool reduced = std::binary_search(dims.begin(), dims.end(), i);
    TORCH_CHECK_VALUE(!reduced || x.size(i) >= 1, kName, ": a dimension to average must have an element, got shape ",
                      x.sizes());
    if (!reduced || keepdim) shape.push_back(reduced ? 1 : x.size(i));
  }
  return shape;
}

}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def("mean(Tensor x, int[] dim, bool keepdim=False) -> Tensor"); }
