#include "common/rounding.h"
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

/// A thread has one vector or one single value.
template <typename T, bool kOneScale>
__global__ void __launch_bounds__(kThreads)
    fake_quantize_forward(const T* x, ScaledValues values, VectorRun run, const Computed<T>* scales, Computed<T> lo,
                          Computed<T> hi, bool binary, T* y) {
  using C = Computed<T>;
  constexpr int kLanes = Vector16<T>::kLanes;
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item < run.vectors) {
    const std::int64_t at = run.head + item * kLanes;
    ScaleWalk<C, kOneScale> scale(scales, values, at);
    Vector16<T> v = load16(x + at);
#pragma unroll
    for (int lane = 0; lane < kLanes; ++lane) {
      v.lane[lane] = from_computed<T>(fake_quantized<C>(to_computed(v.lane[lane]), scale.current(), lo, hi, binary));
      scale.next();
    }
    store16(y + at, v);
  } else if (item < run.items()) {
    const std::int64_t at = run.single(item);
    const ScaleWalk<C, kOneScale> scale(scales, values, at);
    y[at] = from_computed<T>(fake_quantized<C>(to_computed(x[at]), scale.current(), lo, hi, binary));
  }
}

Work work_of(const char* op, const char* kernel, const ScaledValues& values) {
  return {op, kernel, {{{"rows", values.rows}, {"channels", values.channels}, {"inner", values.inner}}}};
}

}  // namespace

template <typename T>
void fake_quantize(const T* x, const ScaledValues& values, const Computed<T>* scales, const QuantRange& range, T* y,
                   Stream stream) {
  using C = Computed<T>;
  if (values.count() == 0) return;
  const VectorRun run = vector_run(values.count(), x, y);
  const Grid grid = {static_cast<unsigned>(ceil_div<std::int64_t>(run.items(), kThreads)), kThreads};
  const auto kernel = values.channels == 1 ? fake_quantize_forward<T, true> : fake_quantize_forward<T, false>;
  launch(work_of("fake_quantize", "fake_quantize_forward", values), grid, stream, kernel, x, values, run, scales,
         static_cast<C>(range.lo), static_cast<C>(range.hi), range.binary, y);
}

template void fake_quantize<float>(const float*, const ScaledValues&, const float*, const QuantRange&, float*, Stream);
template void fake_quantize<double>(const double*, const ScaledValues&, const double*, const QuantRange&, double*,
                                    Stream);
template void fake_quantize<BFloat16>(const BFloat16*, const ScaledValues&, const float*, const QuantRange&, BFloat16*,
                                      Stream);
template void fake_quantize<Float16>(const Float16*, const ScaledValues&, const float*, const QuantRange&, Float16*,
                                     Stream);

}  // namespace cimq::kernels::cuda
