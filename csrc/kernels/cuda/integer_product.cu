#include <limits>
#include <type_traits>

#include "common/error.h"
#include "common/rounding.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/integer_block.h"
#include "kernels/cuda/integer_product.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector_access.h"
#include "kernels/formula/integers.h"

namespace cimq::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;
/// Groups with fewer outputs would leave most of a block's lines empty.
constexpr std::int64_t kFewOutputs = 8;
constexpr float kNoInteger = std::numeric_limits<float>::quiet_NaN();

/// The integer that a value stands for, 0 where it is out of range.
__device__ __forceinline__ std::int32_t integer_of(float value, float lo, float hi, bool& fault) {
  const NearestInteger nearest = nearest_integer(value, lo, hi);
  fault = fault || nearest.bad != 0;
  return integer_or_zero(nearest, lo, hi);
}

/// A thread makes one piece. Neighbours have neighbouring pixels, which lie side by side in images whose channels come
/// first.
__global__ void __launch_bounds__(kThreads) narrow_channels(NarrowArguments narrow) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= narrow.count) return;
  const std::int64_t pixel = item % narrow.pixels;
  const std::int64_t rest = item / narrow.pixels;
  const auto piece = static_cast<int>(rest % narrow.pieces);
  const std::int64_t image_and_group = rest / narrow.pieces;
  const auto group = static_cast<int>(image_and_group % narrow.groups);
  const std::int64_t image = image_and_group / narrow.groups;
  const StridedFloats& from = narrow.from;
  const std::int64_t first =
      image * from.stride[0] + pixel / narrow.width * from.stride[2] + pixel % narrow.width * from.stride[3];
  const int channel = piece * kPieceBytes;
  Vector<std::uint8_t> bytes;
  bool fault = false;
#pragma unroll
  for (int j = 0; j < kPieceBytes; ++j) {
    const bool exists = channel + j < narrow.group_channels;
    const std::int64_t at = first + (std::int64_t{group} * narrow.group_channels + channel + j) * from.stride[1];
    const float value = exists ? __ldg(from.data + at) : 0.0F;
    const std::int32_t integer = exists ? integer_of(value, narrow.lo, narrow.hi, fault) : 0;
    bytes.lane[j] = static_cast<std::uint8_t>(integer);
  }
  const std::int64_t pixel_at = image * narrow.pixels + pixel;
  const std::int64_t to = (pixel_at * narrow.groups + group) * narrow.pieces + piece;
  store_vector(narrow.to + to * kPieceBytes, bytes);
  if (fault) atomicOr(narrow.faults, 1);
}

template <typename Y>
__device__ __forceinline__ Y result_of(std::int32_t sum, bool fault) {
  if constexpr (std::is_same_v<Y, float>) {
    return fault ? kNoInteger : static_cast<float>(sum);
  } else {
    return sum;
  }
}

// Four blocks per multiprocessor: others load while one multiplies.
template <bool kSignedX, typename Y>
__global__ void __launch_bounds__(kProductThreads, 4) integer_products(const ProductArguments arguments, Y* y) {
  IntegerBlock<kSignedX> block(arguments);
  block.run();
  const bool fault = *arguments.faults != 0;
  block.for_each_result([&](std::int64_t at, std::int32_t sum) { y[at] = result_of<Y>(sum, fault); });
}

/// Convolutions of few outputs per group (depthwise ones): a thread per result, floats as they are.
struct FewOutputs {
  StridedFloats x, w;
  float x_lo, x_hi, w_lo, w_hi;
  std::int64_t count;
  std::int64_t y_group, y_image, y_position, y_output;
  std::int32_t group_channels;
  std::int32_t group_outputs;
};

template <typename Y>
__global__ void __launch_bounds__(kThreads, 4)
    convolve_few_outputs(FewOutputs few, ProductArguments shape, int* faults, Y* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= few.count) return;
  const auto position = static_cast<int>(item % shape.positions);
  const std::int64_t rest = item / shape.positions;
  const std::int32_t outputs = shape.groups * few.group_outputs;
  const auto output = static_cast<int>(rest % outputs);
  const std::int64_t image = rest / outputs;
  const int group = output / few.group_outputs;
  const int first_y = position / shape.out_width * shape.stride_y - shape.pad_top;
  const int first_x = position % shape.out_width * shape.stride_x - shape.pad_left;
  std::int32_t sum = 0;
  bool fault = false;
  const int taps = shape.pieces;
  for (int c = 0; c < few.group_channels; ++c) {
    const float* const plane =
        few.x.data + image * few.x.stride[0] + (group * few.group_channels + c) * few.x.stride[1];
    const float* const kernel = few.w.data + output * few.w.stride[0] + c * few.w.stride[1];
    for (int tap = 0; tap < taps; ++tap) {
      const int tap_y = tap / shape.kernel_w;
      const int tap_x = tap - tap_y * shape.kernel_w;
      const int at_y = first_y + tap_y * shape.dilation_y;
      const int at_x = first_x + tap_x * shape.dilation_x;
      const float weight = __ldg(kernel + tap_y * few.w.stride[2] + tap_x * few.w.stride[3]);
      const std::int32_t factor = integer_of(weight, few.w_lo, few.w_hi, fault);
      if (at_y < 0 || at_y >= shape.height || at_x < 0 || at_x >= shape.width) continue;
      const float value = __ldg(plane + at_y * few.x.stride[2] + at_x * few.x.stride[3]);
      sum += integer_of(value, few.x_lo, few.x_hi, fault) * factor;
    }
  }
  const std::int64_t at = group * few.y_group + image * few.y_image + position * few.y_position +
                          (output - group * few.group_outputs) * few.y_output;
  y[at] = result_of<Y>(sum, fault);
  if (fault) atomicOr(faults, 1);
}

std::int32_t pieces_of(const IntegerShape& shape) {
  const Conv2dGeometry& g = shape.geometry;
  return static_cast<std::int32_t>(ceil_div<std::int64_t>(g.in_channels / g.groups, kPieceBytes));
}

std::int64_t x_bytes(const IntegerShape& shape) {
  return shape.matrices * shape.batch * shape.h * shape.w * shape.geometry.groups * pieces_of(shape) * kPieceBytes;
}

std::int64_t w_bytes(const IntegerShape& shape) {
  const Conv2dGeometry& g = shape.geometry;
  return shape.matrices * g.out_channels * g.kernel_h * g.kernel_w * pieces_of(shape) * kPieceBytes;
}

bool has_few_outputs(const IntegerShape& shape) {
  const Conv2dGeometry& g = shape.geometry;
  return g.groups > 1 && g.out_channels / g.groups < kFewOutputs;
}

Work work_of(const char* op, const char* kernel, const IntegerShape& shape) {
  return {op,
          kernel,
          {{{"matrices", shape.matrices},
            {"batch", shape.batch},
            {"height", shape.h},
            {"width", shape.w},
            {"inputs", shape.geometry.inputs_per_output()},
            {"outputs", shape.geometry.out_channels}}}};
}

void narrow(const char* op, const IntegerShape& shape, const StridedFloats& from, const IntegerRange& range,
            std::int64_t images, std::int64_t h, std::int64_t w, std::int64_t groups, std::uint8_t* to, int* faults,
            Stream stream) {
  NarrowArguments arguments = {};
  arguments.from = from;
  arguments.pixels = h * w;
  arguments.width = static_cast<std::int32_t>(w);
  arguments.groups = static_cast<std::int32_t>(groups);
  arguments.group_channels = static_cast<std::int32_t>(shape.geometry.in_channels / shape.geometry.groups);
  arguments.pieces = pieces_of(shape);
  arguments.count = images * h * w * groups * arguments.pieces;
  arguments.lo = static_cast<float>(range.lo);
  arguments.hi = static_cast<float>(range.hi);
  arguments.to = to;
  arguments.faults = faults;
  launch(work_of(op, "narrow_channels", shape), grid_of(arguments.count, kThreads), stream, narrow_channels, arguments);
}

ProductArguments product_arguments(const IntegerShape& shape) {
  const Conv2dGeometry& g = shape.geometry;
  const auto narrowed = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  ProductArguments a = {};
  const std::int64_t out_h = g.out_h(shape.h);
  const std::int64_t out_w = g.out_w(shape.w);
  const std::int64_t positions = out_h * out_w;
  const std::int64_t group_outputs = g.out_channels / g.groups;
  const bool matrices = shape.matrices > 1;
  a.groups = narrowed(matrices ? shape.matrices : g.groups);
  a.rows = narrowed(shape.batch * positions);
  a.outputs = narrowed(group_outputs);
  a.row_blocks = ceil_div(a.rows, kProductRows);
  a.line_blocks = ceil_div(a.outputs, kProductLines);
  a.positions = narrowed(positions);
  a.out_width = narrowed(out_w);
  a.height = narrowed(shape.h);
  a.width = narrowed(shape.w);
  a.stride_y = narrowed(g.stride_h);
  a.stride_x = narrowed(g.stride_w);
  a.pad_top = narrowed(g.pad_top);
  a.pad_left = narrowed(g.pad_left);
  a.dilation_y = narrowed(g.dilation_h);
  a.dilation_x = narrowed(g.dilation_w);
  a.kernel_w = narrowed(g.kernel_w);
  a.pieces_of_tap = pieces_of(shape);
  a.pieces = narrowed(g.kernel_h * g.kernel_w) * a.pieces_of_tap;
  const std::int64_t group_bytes = std::int64_t{a.pieces_of_tap} * kPieceBytes;
  a.x_pixel = g.groups * group_bytes;
  a.x_row = shape.w * a.x_pixel;
  a.x_image = shape.h * a.x_row;
  a.x_group = matrices ? shape.batch * a.x_image : group_bytes;
  a.w_group = group_outputs * a.pieces * kPieceBytes;
  a.y_image = positions * g.out_channels;
  a.y_position = shape.channels_last ? g.out_channels : 1;
  a.y_output = shape.channels_last ? 1 : positions;
  a.y_group = matrices ? shape.batch * a.y_image : group_outputs * a.y_output;
  return a;
}

}  // namespace

IntegerShape matrices_shape(std::int64_t matrices, std::int64_t rows, std::int64_t inputs, std::int64_t outputs) {
  IntegerShape shape;
  shape.geometry.in_channels = inputs;
  shape.geometry.out_channels = outputs;
  shape.batch = rows;
  shape.matrices = matrices;
  return shape;
}

void check_integer_product(const char* op, const IntegerShape& shape, const IntegerRanges& ranges) {
  const Conv2dGeometry& g = shape.geometry;
  check_geometry(g, op);
  check_image(g, shape.h, shape.w, op);
  check(shape.batch >= 0 && shape.matrices >= 0 && (shape.matrices == 1 || g.groups == 1), op,
        ": batch and matrices must be at least 0, and groups are of one matrix, got ", shape.batch, ", ",
        shape.matrices, " and ", g.groups);
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  const std::int64_t rows = shape.batch * g.out_h(shape.h) * g.out_w(shape.w);
  check(rows <= kMost - kProductRows && shape.matrices <= kMost && shape.h * shape.w <= kMost &&
            g.inputs_per_output() <= kMost / kPieceBytes,
        op, ": a CUDA device takes fewer rows and inputs, got ", rows, " and ", g.inputs_per_output(),
        "; split the batch");
  constexpr std::int64_t kMostPixels = std::int64_t{1} << 30;  // of an axis, so that places in the padding fit 32 bits
  check(shape.h + g.pad_top + g.pad_bottom < kMostPixels && shape.w + g.pad_left + g.pad_right < kMostPixels, op,
        ": a CUDA device takes padded images of fewer than 2^30 rows and columns, got ", shape.h, " x ", shape.w);
  const std::int64_t largest_x = std::max(-ranges.x.lo, ranges.x.hi);
  const std::int64_t largest_w = std::max(-ranges.w.lo, ranges.w.hi);
  const bool bytes =
      ranges.x.lo >= (ranges.x.hi > 127 ? 0 : -128) && ranges.x.hi <= 255 && ranges.w.lo >= -128 && ranges.w.hi <= 127;
  check(bytes, op, ": integers must fit bytes, got ", ranges.x.lo, "..", ranges.x.hi, " and ", ranges.w.lo, "..",
        ranges.w.hi);
  check(g.inputs_per_output() <= kMost / std::max<std::int64_t>(1, largest_x * largest_w), op, ": sums of ",
        g.inputs_per_output(), " products do not fit 32 bits");
}

std::int64_t integer_product_scratch(const IntegerShape& shape) {
  return has_few_outputs(shape) ? 0 : x_bytes(shape) + w_bytes(shape);
}

template <typename Y>
void integer_product(const char* op, const IntegerShape& shape, const StridedFloats& x, const StridedFloats& w,
                     const IntegerRanges& ranges, std::byte* scratch, int* faults, Y* y, Stream stream) {
  const Conv2dGeometry& g = shape.geometry;
  ProductArguments a = product_arguments(shape);
  if (a.rows == 0 || shape.matrices == 0) return;
  if (has_few_outputs(shape)) {
    a.pieces = static_cast<std::int32_t>(g.kernel_h * g.kernel_w);  // taps: channels have a loop of their own
    const FewOutputs few = {x,
                            w,
                            static_cast<float>(ranges.x.lo),
                            static_cast<float>(ranges.x.hi),
                            static_cast<float>(ranges.w.lo),
                            static_cast<float>(ranges.w.hi),
                            std::int64_t{a.rows} * g.out_channels,
                            a.y_group,
                            a.y_image,
                            a.y_position,
                            a.y_output,
                            static_cast<std::int32_t>(g.in_channels / g.groups),
                            a.outputs};
    launch(work_of(op, "convolve_few_outputs", shape), grid_of(few.count, kThreads), stream, convolve_few_outputs<Y>,
           few, a, faults, y);
    return;
  }
  auto* const x_at = reinterpret_cast<std::uint8_t*>(scratch);
  std::uint8_t* const w_at = x_at + x_bytes(shape);
  const std::int64_t images = shape.matrices * shape.batch;
  narrow(op, shape, x, ranges.x, images, shape.h, shape.w, g.groups, x_at, faults, stream);
  narrow(op, shape, w, ranges.w, shape.matrices * g.out_channels, g.kernel_h, g.kernel_w, 1, w_at, faults, stream);
  a.x = x_at;
  a.w = w_at;
  a.faults = faults;
  const std::int64_t blocks = std::int64_t{a.row_blocks} * a.line_blocks * a.groups;
  Grid grid = grid_of(blocks, 1, kProductBytes);
  grid.threads = dim3(kProductThreads);
  launch(work_of(op, "integer_products", shape), grid, stream,
         ranges.x.lo < 0 ? integer_products<true, Y> : integer_products<false, Y>, a, y);
}

template void integer_product<float>(const char*, const IntegerShape&, const StridedFloats&, const StridedFloats&,
                                     const IntegerRanges&, std::byte*, int*, float*, Stream);
template void integer_product<std::int32_t>(const char*, const IntegerShape&, const StridedFloats&,
                                            const StridedFloats&, const IntegerRanges&, std::byte*, int*, std::int32_t*,
                                            Stream);

}  // namespace cimq::kernels::cuda
