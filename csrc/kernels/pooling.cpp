// Which images and windows pooling takes.
#include "kernels/pooling.h"

#include "common/error.h"
#include "common/pooled_size.h"

namespace cimq::kernels {
namespace {

void check_image(const char* op, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
  check(n >= 0 && c >= 0 && h >= 1 && w >= 1, op, ": x must be [n, c, h, w] with h and w at least 1, got [", n, ", ", c,
        ", ", h, ", ", w, "]");
}

}  // namespace

PooledImage avg_pooled_image(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Pool2d& pool) {
  check_image("avg_pool2d", n, c, h, w);
  check(pool.kernel_h >= 1 && pool.kernel_w >= 1 && pool.stride_h >= 1 && pool.stride_w >= 1,
        "avg_pool2d: kernel and stride must be at least 1, got kernel ", pool.kernel_h, " x ", pool.kernel_w,
        ", stride ", pool.stride_h, " x ", pool.stride_w);
  const std::int64_t out_h = pooled_size(h, pool.kernel_h, pool.stride_h, pool.pad_h, 1, pool.ceil_mode);
  const std::int64_t out_w = pooled_size(w, pool.kernel_w, pool.stride_w, pool.pad_w, 1, pool.ceil_mode);
  check(pool.pad_h >= 0 && pool.pad_w >= 0 && 2 * pool.pad_h <= pool.kernel_h && 2 * pool.pad_w <= pool.kernel_w,
        "avg_pool2d: padding must be at most half the kernel, got ", pool.pad_h, " x ", pool.pad_w, " for a kernel of ",
        pool.kernel_h, " x ", pool.kernel_w);
  check(pool.divisor >= 0, "avg_pool2d: the divisor must be positive, got ", pool.divisor);
  check(out_h >= 1 && out_w >= 1, "avg_pool2d: the padded image must be at least as large as the kernel (",
        pool.kernel_h, " x ", pool.kernel_w, "), got an image of ", h, " x ", w);
  return {out_h, out_w};
}

void check_adaptive_pool(const char* op, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w,
                         std::int64_t out_h, std::int64_t out_w) {
  check_image(op, n, c, h, w);
  check(out_h >= 1 && out_w >= 1, op, ": the result must have at least one row and column, got ", out_h, " x ", out_w);
}

}  // namespace cimq::kernels
