#include "kernels/cuda/device.h"
#include "kernels/cuda/image_places.h"
#include "kernels/cuda/launch.h"
#include "kernels/resize.h"

namespace cimq::kernels::cuda {
namespace {

struct ResizedImages {
  std::int64_t planes, h, w;
  Resize2d to;
  __device__ __forceinline__ std::int64_t elements() const { return planes * to.out_h * to.out_w; }
};

template <typename Index>
__global__ void __launch_bounds__(kImageThreads) resize_nearest(const float* x, ResizedImages images, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= images.elements()) return;
  const Resize2d& to = images.to;
  const ImagePlace place = image_place<Index>(item, to.out_h, to.out_w);
  const std::int64_t row = nearest_source(place.row, images.h, to.out_h, to.step_h);
  const std::int64_t column = nearest_source(place.column, images.w, to.out_w, to.step_w);
  y[item] = x[(place.plane * images.h + row) * images.w + column];
}

template <typename Index>
__global__ void __launch_bounds__(kImageThreads) resize_bilinear(const float* x, ResizedImages images, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kImageThreads + threadIdx.x;
  if (item >= images.elements()) return;
  const Resize2d& to = images.to;
  const ImagePlace place = image_place<Index>(item, to.out_h, to.out_w);
  y[item] = bilinear(x + place.plane * images.h * images.w, images.w,
                     linear_source(place.row, images.h, to.out_h, to.step_h, to.align_corners),
                     linear_source(place.column, images.w, to.out_w, to.step_w, to.align_corners));
}

}  // namespace

void resize2d(const float* x, std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, const Resize2d& r,
              float* y, Stream stream) {
  check_resize2d(n, c, h, w, r);
  const bool nearest = r.mode == ResizeMode::kNearest;
  const Work work = {"resize2d",
                     nearest ? "resize_nearest" : "resize_bilinear",
                     {{{"planes", n * c},
                       {"height", h},
                       {"width", w},
                       {"rows of the result", r.out_h},
                       {"columns of the result", r.out_w}}}};
  launch_on_images(
      work, n * c * r.out_h * r.out_w, stream, nearest ? resize_nearest<std::uint32_t> : resize_bilinear<std::uint32_t>,
      nearest ? resize_nearest<std::uint64_t> : resize_bilinear<std::uint64_t>, x, ResizedImages{n * c, h, w, r}, y);
}

}  // namespace cimq::kernels::cuda
