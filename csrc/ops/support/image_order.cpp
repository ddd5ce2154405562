#include "ops/support/image_order.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "common/rounding.h"
#include "kernels/image_order.h"
#include "ops/support/scratch.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 15;  // values that a thread is worth starting for
constexpr std::int64_t kPixels = 1024;    // of an image that are worked on in one piece

std::int64_t parts_of(const at::Tensor& images) { return ceil_div(images.size(2) * images.size(3), kPixels); }

/// Calls body(part, offset of the image, run of pixels) for parts of all images, in parallel.
template <typename Body>
void for_each_run(const at::Tensor& images, const Body& body) {
  const std::int64_t channels = images.size(1);
  const std::int64_t pixels = images.size(2) * images.size(3);
  const std::int64_t parts = parts_of(images);
  const std::int64_t grain = 1 + kGrain / std::max<std::int64_t>(1, channels * std::min(pixels, kPixels));
  at::parallel_for(0, images.size(0) * parts, grain, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t begin = i % parts * kPixels;
      body(i, i / parts * channels * pixels,
           kernels::PixelRun{channels, pixels, begin, std::min(pixels, begin + kPixels)});
    }
  });
}

template <typename T>
at::Tensor codes_of_type(const at::Tensor& x, float scale, const kernels::QuantRange& range, int shift,
                         const ScaledRows& rows, std::atomic<bool>& finite) {
  at::Tensor codes = scratch_images(Scratch::kLevels, x.sizes(), at::kByte);
  const auto* source = static_cast<const T*>(x.const_data_ptr());
  auto* target = codes.mutable_data_ptr<std::uint8_t>();
  if (x.strides() == codes.strides()) {
    rows.for_each_block([&](std::int64_t, std::int64_t, std::int64_t begin, std::int64_t count) {
      if (!kernels::cpu::quantize(source + begin, count, scale, range, target + begin, shift)) finite = false;
    });
    return codes;
  }
  for_each_run(x, [&](std::int64_t, std::int64_t image, const kernels::PixelRun& run) {
    const bool all = kernels::cpu::quantize_channels_last(source + image, run, scale, range, shift, target + image);
    if (!all) finite = false;
  });
  return codes;
}

/// Copies dense images to `result`, which has the other of the two orders.
template <typename T>
void reorder(const at::Tensor& values, at::MemoryFormat format, at::Tensor& result) {
  const auto* source = static_cast<const T*>(values.const_data_ptr());
  auto* target = static_cast<T*>(result.mutable_data_ptr());
  for_each_run(values, [&](std::int64_t, std::int64_t image, const kernels::PixelRun& run) {
    format == at::MemoryFormat::ChannelsLast ? kernels::cpu::channels_last(source + image, run, target + image)
                                             : kernels::cpu::channels_first(source + image, run, target + image);
  });
}

}  // namespace

at::Tensor codes_of(const at::Tensor& x, float scale, const kernels::QuantRange& range, int shift,
                    const ScaledRows& rows, std::atomic<bool>& finite) {
  return x.scalar_type() == at::kFloat ? codes_of_type<float>(x, scale, range, shift, rows, finite)
                                       : codes_of_type<BFloat16>(x, scale, range, shift, rows, finite);
}

QuantizerGradients quantizer_gradients_channels_last(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& scale, const kernels::QuantRange& range,
                                                     double factor, const at::Tensor& levels) {
  const QuantizerGradients result{at::empty_like(x), at::empty(scale.sizes(), scale.options())};
  // One sum per part, added up in their order: the result does not depend on the number of threads.
  std::vector<double> partial(static_cast<std::size_t>(x.size(0) * parts_of(x)), 0.0);
  const auto step = scale.item<float>();
  const auto run_all = [&]<typename T>(T) {
    const auto* upstream = static_cast<const T*>(grad.const_data_ptr());
    const auto* source = static_cast<const T*>(x.const_data_ptr());
    auto* target = static_cast<T*>(result.x.mutable_data_ptr());
    auto* integers = static_cast<T*>(levels.mutable_data_ptr());
    for_each_run(x, [&](std::int64_t part, std::int64_t image, const kernels::PixelRun& run) {
      partial[static_cast<std::size_t>(part)] = kernels::cpu::fake_quantize_backward_channels_last(
          upstream + image, source + image, run, step, range, target + image, integers + image);
    });
  };
  x.scalar_type() == at::kFloat ? run_all(float{}) : run_all(BFloat16{});
  result.scale.fill_(std::accumulate(partial.begin(), partial.end(), 0.0) * factor);
  return result;
}

at::Tensor seen_in_order(const at::Tensor& images, at::MemoryFormat format) {
  const std::int64_t channels = images.size(1);
  const std::int64_t width = images.size(3);
  const std::int64_t pixels = images.size(2) * width;
  const bool last = format == at::MemoryFormat::ChannelsLast;
  return images.numel() == 0 ? images
         : last              ? images.as_strided(images.sizes(), {channels * pixels, 1, width * channels, channels})
                             : images.as_strided(images.sizes(), {channels * pixels, pixels, width, 1});
}

at::Tensor in_order(const at::Tensor& images, at::MemoryFormat format, at::Tensor target) {
  // With one channel or one pixel the strides of the other order are as contiguous.
  if (images.is_contiguous(format)) return seen_in_order(images, format);
  if (!target.defined()) target = at::empty(images.sizes(), images.options(), format);
  const bool dense = images.is_contiguous() || images.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (dense && images.scalar_type() == at::kFloat) {
    reorder<float>(images, format, target);
  } else if (dense && images.scalar_type() == at::kBFloat16) {
    reorder<BFloat16>(images, format, target);
  } else {
    target.copy_(images);
  }
  return target;
}

}  // namespace cimq::ops
