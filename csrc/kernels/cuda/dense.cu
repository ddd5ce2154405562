#include <limits>

#include "common/error.h"
#include "common/rounding.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/dense.h"
#include "kernels/formula/dense.h"
#include "kernels/formula/float_functions.h"

namespace cimq::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;   ///< rows and outputs of a block
constexpr int kChunk = 16;  ///< inputs that are in shared memory at once
constexpr int kOwn = 4;     ///< rows and outputs of a thread, kAcross apart
constexpr int kAcross = kTile / kOwn;
constexpr int kPitch = kTile + 1;  ///< odd, so that threads which write along the inputs use different banks
constexpr std::size_t kSharedBytes = 2 * kChunk * kPitch * sizeof(double);
/// Groups with fewer outputs would leave most of a tile empty.
constexpr std::int64_t kFewOutputs = 8;

/// What lies in the padding is not added: 0 times a weight that is infinite would not be nothing. No float becomes this
/// NaN, as the low bits of one are zeros.
constexpr std::int64_t kAbsentBits = 0x7FF8000000000001;

__device__ __forceinline__ bool is_absent(double value) {
  return static_cast<std::uint32_t>(bits_of_double(value)) == static_cast<std::uint32_t>(kAbsentBits);
}

/// Row r of a group is position r % positions of image r / positions. A linear layer is one of images of one pixel.
struct DenseArguments {
  const float* x;
  const float* w;
  const float* bias;
  float* y;
  std::int32_t groups;
  std::int32_t rows;
  std::int32_t inputs;   ///< of an output: channels, then kernel rows, then columns
  std::int32_t outputs;  ///< of a group
  std::int32_t row_blocks;
  std::int32_t line_blocks;

  std::int32_t positions;
  std::int32_t out_width;
  std::int32_t height, width;
  std::int32_t stride_y, stride_x;
  std::int32_t pad_top, pad_left;
  std::int32_t dilation_y, dilation_x;
  std::int32_t taps;  ///< of a channel
  std::int32_t kernel_w;
  std::int64_t x_image, x_group;
  std::int64_t y_image, y_output;
};

/// Where a row's window begins.
struct Window {
  const float* image;  ///< of the row's group
  std::int32_t y, x;
};

__device__ __forceinline__ Window window_of(const DenseArguments& a, int group, int row) {
  const int image = row / a.positions;
  const int position = row - image * a.positions;
  const int oy = position / a.out_width;
  return {a.x + image * a.x_image + group * a.x_group, oy * a.stride_y - a.pad_top,
          (position - oy * a.out_width) * a.stride_x - a.pad_left};
}

/// Whether input k of the window lies inside the image, and its value there.
__device__ __forceinline__ bool value_at(const DenseArguments& a, const Window& window, int k, float& value) {
  const int channel = k / a.taps;
  const int tap = k - channel * a.taps;
  const int tap_y = tap / a.kernel_w;
  const int y = window.y + tap_y * a.dilation_y;
  const int x = window.x + (tap - tap_y * a.kernel_w) * a.dilation_x;
  if (y < 0 || y >= a.height || x < 0 || x >= a.width) return false;
  value = __ldg(window.image + (std::int64_t{channel} * a.height + y) * a.width + x);
  return true;
}

/// A tile of inputs [kChunk][kTile] in shared memory. Linear layers are read along their inputs, images along
/// positions, as each lies in memory.
template <bool kImages>
__device__ __forceinline__ void fill_inputs(const DenseArguments& a, int group, int first_row, int first_input,
                                            const SharedArray<double>& tile) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int k = kImages ? thread / kTile + j * (kChunk / kOwn) : thread % kChunk;
    const int r = kImages ? thread % kTile : thread / kChunk + j * kAcross;
    const int row = first_row + r;
    const int input = first_input + k;
    double value = 0.0;
    if (row < a.rows && input < a.inputs) {
      if constexpr (kImages) {
        float found = 0.0F;
        const bool inside = value_at(a, window_of(a, group, row), input, found);
        value = inside ? static_cast<double>(found) : double_of_bits(kAbsentBits);
      } else {
        value = static_cast<double>(__ldg(a.x + std::int64_t{row} * a.inputs + input));
      }
    }
    tile.store(k * kPitch + r, value);
  }
}

__device__ __forceinline__ void fill_weights(const DenseArguments& a, int group, int first_line, int first_input,
                                             const SharedArray<double>& tile) {
  const int thread = static_cast<int>(threadIdx.x);
  const int k = thread % kChunk;
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int r = thread / kChunk + j * kAcross;
    const int line = first_line + r;
    const int input = first_input + k;
    const bool exists = line < a.outputs && input < a.inputs;
    const std::int64_t at = (std::int64_t{group} * a.outputs + line) * a.inputs + input;
    // Behind the last input 0 is added to the sums, which changes none.
    tile.store(k * kPitch + r, exists ? static_cast<double>(__ldg(a.w + at)) : 0.0);
  }
}

/// A block: 64 rows against 64 outputs, 4 x 4 to a thread, whose sums take the inputs in ascending order.
template <bool kImages>
__global__ void __launch_bounds__(kThreads, 2) sum_products(const DenseArguments a) {
  const SharedArray<double> inputs = shared_memory<double>(0, kChunk * kPitch);
  const SharedArray<double> weights = shared_memory<double>(kChunk * kPitch * sizeof(double), kChunk * kPitch);
  int block = static_cast<int>(blockIdx.x);
  const int first_line = block % a.line_blocks * kTile;  // neighbours share their rows
  block /= a.line_blocks;
  const int group = block / a.row_blocks;
  const int first_row = (block - group * a.row_blocks) * kTile;
  const int thread = static_cast<int>(threadIdx.x);
  const int own_row = thread / kAcross;
  const int own_line = thread % kAcross;
  double sums[kOwn][kOwn] = {};
  for (int first_input = 0; first_input < a.inputs; first_input += kChunk) {
    fill_inputs<kImages>(a, group, first_row, first_input, inputs);
    fill_weights(a, group, first_line, first_input, weights);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kChunk; ++k) {
      double of_lines[kOwn];
#pragma unroll
      for (int n = 0; n < kOwn; ++n) of_lines[n] = weights.load(k * kPitch + own_line + n * kAcross);
#pragma unroll
      for (int m = 0; m < kOwn; ++m) {
        const double value = inputs.load(k * kPitch + own_row + m * kAcross);
        if (kImages && is_absent(value)) continue;
#pragma unroll
        for (int n = 0; n < kOwn; ++n) sums[m][n] = plus_product(sums[m][n], value, of_lines[n]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int m = 0; m < kOwn; ++m) {
    const int row = first_row + own_row + m * kAcross;
    if (row >= a.rows) continue;
    const int image = row / a.positions;
    float* const y = a.y + image * a.y_image + (row - image * a.positions);
#pragma unroll
    for (int n = 0; n < kOwn; ++n) {
      const int line = first_line + own_line + n * kAcross;
      if (line >= a.outputs) continue;
      const int output = group * a.outputs + line;
      y[output * a.y_output] = rounded_sum(sums[m][n], a.bias, output);
    }
  }
}

/// Convolutions of few outputs per group (depthwise ones): a thread per result.
__global__ void __launch_bounds__(kThreads, 4) sum_few_products(const DenseArguments a, std::int64_t count) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= count) return;
  const auto position = static_cast<int>(item % a.positions);
  const std::int64_t rest = item / a.positions;
  const int outputs = a.groups * a.outputs;
  const auto output = static_cast<int>(rest % outputs);
  const auto image = static_cast<int>(rest / outputs);
  const Window window = window_of(a, output / a.outputs, image * a.positions + position);
  const float* const weights = a.w + std::int64_t{output} * a.inputs;
  double sum = 0.0;
  for (int k = 0; k < a.inputs; ++k) {
    float value = 0.0F;
    if (value_at(a, window, k, value)) sum = plus_product(sum, value, __ldg(weights + k));
  }
  a.y[item] = rounded_sum(sum, a.bias, output);
}

std::int32_t as_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

/// The sizes that all layers have.
DenseArguments sized(const char* op, std::int64_t rows, std::int64_t inputs, std::int64_t outputs,
                     std::int64_t groups) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() - kTile;
  check(rows <= kMost && inputs <= kMost && outputs * groups <= kMost, op,
        ": a CUDA device takes at most 2147483583 rows, inputs and outputs, got ", rows, ", ", inputs, " and ",
        outputs * groups, "; split the batch");
  DenseArguments a = {};
  a.groups = as_int(groups);
  a.rows = as_int(rows);
  a.inputs = as_int(inputs);
  a.outputs = as_int(outputs);
  a.row_blocks = ceil_div(a.rows, kTile);
  a.line_blocks = ceil_div(a.outputs, kTile);
  return a;
}

void launch_tiles(const Work& work, const DenseArguments& a, void (*kernel)(DenseArguments), Stream stream) {
  Grid grid = grid_of(std::int64_t{a.row_blocks} * a.line_blocks * a.groups, 1, kSharedBytes);
  grid.threads = dim3(kThreads);
  launch(work, grid, stream, kernel, a);
}

}  // namespace

void linear_f32(const float* x, const float* w, const float* bias, std::int64_t batch, std::int64_t inputs,
                std::int64_t outputs, float* y, Stream stream) {
  check_linear_f32(batch, inputs, outputs);
  if (batch == 0) return;
  DenseArguments a = sized("linear_f32", batch, inputs, outputs, 1);
  a.x = x;
  a.w = w;
  a.bias = bias;
  a.y = y;
  a.positions = 1;
  a.y_image = outputs;
  a.y_output = 1;
  const Work work = {"linear_f32", "sum_products", {{{"batch", batch}, {"inputs", inputs}, {"outputs", outputs}}}};
  launch_tiles(work, a, sum_products<false>, stream);
}

void conv2d_f32(const float* x, const float* w, const float* bias, const Conv2dGeometry& g, std::int64_t batch,
                std::int64_t h, std::int64_t width, float* y, Stream stream) {
  check_conv2d_f32(g, batch, h, width);
  constexpr std::int64_t kMostPixels = std::int64_t{1} << 30;  // of an axis, so that places in the padding fit 32 bits
  check(h + g.pad_top + g.pad_bottom < kMostPixels && width + g.pad_left + g.pad_right < kMostPixels,
        "conv2d_f32: a CUDA device takes padded images of fewer than 2^30 rows and columns, got ", h, " x ", width);
  if (batch == 0) return;
  const std::int64_t out_w = g.out_w(width);
  const std::int64_t positions = g.out_h(h) * out_w;
  const std::int64_t group_outputs = g.out_channels / g.groups;
  DenseArguments a = sized("conv2d_f32", batch * positions, g.inputs_per_output(), group_outputs, g.groups);
  a.x = x;
  a.w = w;
  a.bias = bias;
  a.y = y;
  a.positions = as_int(positions);
  a.out_width = as_int(out_w);
  a.height = as_int(h);
  a.width = as_int(width);
  a.stride_y = as_int(g.stride_h);
  a.stride_x = as_int(g.stride_w);
  a.pad_top = as_int(g.pad_top);
  a.pad_left = as_int(g.pad_left);
  a.dilation_y = as_int(g.dilation_h);
  a.dilation_x = as_int(g.dilation_w);
  a.taps = as_int(g.kernel_h * g.kernel_w);
  a.kernel_w = as_int(g.kernel_w);
  a.x_image = g.in_channels * h * width;
  a.x_group = g.in_channels / g.groups * h * width;
  a.y_image = g.out_channels * positions;
  a.y_output = positions;
  Work work = {"conv2d_f32",
               "sum_products",
               {{{"batch", batch},
                 {"height", h},
                 {"width", width},
                 {"inputs", g.inputs_per_output()},
                 {"out_channels", g.out_channels}}}};
  if (g.groups > 1 && group_outputs < kFewOutputs) {
    work.kernel = "sum_few_products";
    const std::int64_t count = batch * g.out_channels * positions;
    launch(work, grid_of(count, kThreads), stream, sum_few_products, a, count);
    return;
  }
  launch_tiles(work, a, sum_products<true>, stream);
}

}  // namespace cimq::kernels::cuda
