#include "common/rounding.h"
#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/scaled_values.h"
#include "kernels/cuda/vector_access.h"
#include "kernels/fake_quantize.h"
#include "kernels/formula/fake_quantize.h"

namespace cimq::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <typename C>
__device__ __forceinline__ C fake_quantized(C x, C scale, C lo, C hi, bool binary) {
  return (binary ? quantized<true, C>(x, scale, lo, hi) : quantized<false, C>(x, scale, lo, hi)) * scale;
}

template <typename C>
__device__ __forceinline__ FakeQuantizeGradient<C> gradient(C x, C scale, C lo, C hi, bool binary) {
  return binary ? fake_quantize_gradient<true, C>(x, scale, lo, hi)
                : fake_quantize_gradient<false, C>(x, scale, lo, hi);
}

/// A thread has one item of the run.
template <typename T, bool kOneScale>
__global__ void __launch_bounds__(kThreads)
    fake_quantize_forward(const T* x, ScaledValues values, VectorRun run, const Computed<T>* scales, Computed<T> lo,
                          Computed<T> hi, bool binary, T* y) {
  using C = Computed<T>;
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= run.items()) return;
  const std::int64_t at = run.begin(item);
  ScaleWalk<C, kOneScale> scale(scales, values, at);
  if (run.is_vector(item)) {
    Vector<T> v = load_vector(x + at);
#pragma unroll
    for (int lane = 0; lane < kLanesOf<T>; ++lane) {
      v.lane[lane] = from_computed<T>(fake_quantized<C>(to_computed(v.lane[lane]), scale.current(), lo, hi, binary));
      scale.next();
    }
    store_vector(y + at, v);
  } else {
    y[at] = from_computed<T>(fake_quantized<C>(to_computed(x[at]), scale.current(), lo, hi, binary));
  }
}

/// How the values are cut for the gradient of the scales: pieces within rows, each worked on by `kGroup` threads.
template <int kGroup>
struct Pieces {
  // Short rows go to a warp each, so that few threads idle.
  static constexpr std::int64_t kValues = kGroup == kWarpThreads ? 1024 : 4096;
  static std::int64_t per_row(const ScaledValues& values) { return ceil_div(values.inner, kValues); }
};

bool rows_are_short(const ScaledValues& values) { return values.inner <= Pieces<kWarpThreads>::kValues; }

std::int64_t pieces_per_row(const ScaledValues& values) {
  return rows_are_short(values) ? Pieces<kWarpThreads>::per_row(values) : Pieces<int{kThreads}>::per_row(values);
}

/// dx, the levels and one sum of grad * d x_hat / d scale per piece.
template <typename T, int kGroup>
__global__ void __launch_bounds__(kThreads, 4)
    fake_quantize_backward_pass(const T* grad, const T* x, ScaledValues values, std::int64_t pieces_of_row,
                                const Computed<T>* scales, Computed<T> lo, Computed<T> hi, bool binary, T* dx,
                                T* levels, double* sums) {
  using C = Computed<T>;
  constexpr std::int64_t kValues = Pieces<kGroup>::kValues;
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t piece = thread / kGroup;
  const bool exists = piece < values.rows * pieces_of_row;
  double sum = 0.0;
  if (exists) {
    const std::int64_t row = piece / pieces_of_row;
    const std::int64_t offset = (piece - row * pieces_of_row) * kValues;
    const std::int64_t first = row * values.inner + offset;
    const std::int64_t count = values.inner - offset < kValues ? values.inner - offset : kValues;
    const C scale = usable_scale(scales[row % values.channels]);
    T* const levels_here = levels == nullptr ? nullptr : levels + first;
    const VectorRun run = vector_run(count, x + first, grad + first, dx + first, levels_here);
    for (std::int64_t item = thread % kGroup; item < run.items(); item += kGroup) {
      const std::int64_t at = first + run.begin(item);
      if (run.is_vector(item)) {
        const Vector<T> xs = load_vector(x + at);
        Vector<T> gs = load_vector(grad + at);
        Vector<T> qs;
#pragma unroll
        for (int lane = 0; lane < kLanesOf<T>; ++lane) {
          const FakeQuantizeGradient<C> d = gradient<C>(to_computed(xs.lane[lane]), scale, lo, hi, binary);
          const C g = to_computed(gs.lane[lane]);
          gs.lane[lane] = from_computed<T>(g * d.x);
          qs.lane[lane] = from_computed<T>(d.level);
          sum += static_cast<double>(g * d.scale);
        }
        store_vector(dx + at, gs);
        if (levels != nullptr) store_vector(levels + at, qs);
      } else {
        const FakeQuantizeGradient<C> d = gradient<C>(to_computed(x[at]), scale, lo, hi, binary);
        const C g = to_computed(grad[at]);
        dx[at] = from_computed<T>(g * d.x);
        if (levels != nullptr) levels[at] = from_computed<T>(d.level);
        sum += static_cast<double>(g * d.scale);
      }
    }
  }
  if constexpr (kGroup == kWarpThreads) {
    const double total = warp_sum(sum);
    if (exists && thread % kGroup == 0) sums[piece] = total;
  } else {
    const double total = block_sum(sum, shared_memory<double>(0, int{kThreads} / kWarpThreads));
    if (threadIdx.x == 0) sums[piece] = total;
  }
}

/// The gradient of one scale per block: the sums of its rows' pieces, each thread in steps of the block.
template <typename C>
__global__ void __launch_bounds__(kThreads)
    fake_quantize_scale_gradient(const double* sums, ScaledValues values, std::int64_t pieces_of_row, double factor,
                                 C* scale_gradients) {
  const std::int64_t channel = blockIdx.x;
  const std::int64_t count = values.rows / values.channels * pieces_of_row;
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) {
    const std::int64_t row = i / pieces_of_row * values.channels + channel;
    sum += sums[row * pieces_of_row + i % pieces_of_row];
  }
  const double total = block_sum(sum, shared_memory<double>(0, int{kThreads} / kWarpThreads));
  if (threadIdx.x == 0) scale_gradients[channel] = static_cast<C>(total * factor);
}

Work work_of(const char* op, const char* kernel, const ScaledValues& values) {
  return {op, kernel, {{{"rows", values.rows}, {"channels", values.channels}, {"inner", values.inner}}}};
}

constexpr std::size_t kSumBytes = kThreads / kWarpThreads * sizeof(double);

}  // namespace

template <typename T>
void fake_quantize(const T* x, const ScaledValues& values, const Computed<T>* scales, const QuantRange& range, T* y,
                   Stream stream) {
  using C = Computed<T>;
  if (values.count() == 0) return;
  const VectorRun run = vector_run(values.count(), x, y);
  const auto kernel = values.channels == 1 ? fake_quantize_forward<T, true> : fake_quantize_forward<T, false>;
  launch(work_of("fake_quantize", "fake_quantize_forward", values), grid_of(run.items(), kThreads), stream, kernel, x,
         values, run, scales, static_cast<C>(range.lo), static_cast<C>(range.hi), range.binary, y);
}

std::int64_t fake_quantize_backward_scratch(const ScaledValues& values) { return values.rows * pieces_per_row(values); }

template <typename T>
void fake_quantize_backward(const T* grad, const T* x, const ScaledValues& values, const Computed<T>* scales,
                            const QuantRange& range, double factor, T* dx, T* levels, Computed<T>* scale_gradients,
                            double* scratch, Stream stream) {
  using C = Computed<T>;
  const std::int64_t pieces_of_row = pieces_per_row(values);
  const auto pass = [&](auto kernel, std::int64_t group, std::size_t shared_bytes) {
    launch(work_of("fake_quantize_backward", "fake_quantize_backward_pass", values),
           grid_of(values.rows * pieces_of_row * group, kThreads, shared_bytes), stream, kernel, grad, x, values,
           pieces_of_row, scales, static_cast<C>(range.lo), static_cast<C>(range.hi), range.binary, dx, levels,
           scratch);
  };
  if (values.count() > 0 && rows_are_short(values)) {
    pass(fake_quantize_backward_pass<T, kWarpThreads>, kWarpThreads, 0);
  } else if (values.count() > 0) {
    pass(fake_quantize_backward_pass<T, int{kThreads}>, kThreads, kSumBytes);
  }
  if (values.channels == 0) return;
  launch(work_of("fake_quantize_backward", "fake_quantize_scale_gradient", values),
         grid_of(values.channels * kThreads, kThreads, kSumBytes), stream, fake_quantize_scale_gradient<C>, scratch,
         values, pieces_of_row, factor, scale_gradients);
}

template void fake_quantize<float>(const float*, const ScaledValues&, const float*, const QuantRange&, float*, Stream);
template void fake_quantize<double>(const double*, const ScaledValues&, const double*, const QuantRange&, double*,
                                    Stream);
template void fake_quantize<BFloat16>(const BFloat16*, const ScaledValues&, const float*, const QuantRange&, BFloat16*,
                                      Stream);
template void fake_quantize<Float16>(const Float16*, const ScaledValues&, const float*, const QuantRange&, Float16*,
                                     Stream);
template void fake_quantize_backward<float>(const float*, const float*, const ScaledValues&, const float*,
                                            const QuantRange&, double, float*, float*, float*, double*, Stream);
template void fake_quantize_backward<double>(const double*, const double*, const ScaledValues&, const double*,
                                             const QuantRange&, double, double*, double*, double*, double*, Stream);
template void fake_quantize_backward<BFloat16>(const BFloat16*, const BFloat16*, const ScaledValues&, const float*,
                                               const QuantRange&, double, BFloat16*, BFloat16*, float*, double*,
                                               Stream);
template void fake_quantize_backward<Float16>(const Float16*, const Float16*, const ScaledValues&, const float*,
                                              const QuantRange&, double, Float16*, Float16*, float*, double*, Stream);

}  // namespace cimq::kernels::cuda
