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

struct Range {
  float lo;
  float hi;
  bool binary;
  int shift;
};

/// The integer of one value; what cannot be quantised is added to `faults`.
template <typename Q>
__device__ __forceinline__ Q integer_of(float x, float scale, const Range& range, int& faults) {
  if (x - x != 0.0F) faults |= kNotFinite;
  if (scale != scale) faults |= kScaleNotUsable;
  const float level = range.binary ? quantized<true, float>(x, scale, range.lo, range.hi)
                                   : quantized<false, float>(x, scale, range.lo, range.hi);
  // An integer of NaN is undefined.
  return static_cast<Q>(static_cast<std::int32_t>(level == level ? level : range.lo) + range.shift);
}

/// A thread has one item of the run.
template <typename T, typename Q, bool kOneScale>
__global__ void __launch_bounds__(kThreads) quantize_values(const T* x, ScaledValues values, VectorRun run,
                                                            const float* scales, Range range, Q* q, int* faults) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= run.items()) return;
  const std::int64_t at = run.begin(item);
  ScaleWalk<float, kOneScale> scale(scales, values, at);
  int found = 0;
  if (run.is_vector(item)) {
    const Vector<T> v = load_vector(x + at);
    Vector<Q, kLanesOf<T>> integers;
#pragma unroll
    for (int lane = 0; lane < kLanesOf<T>; ++lane) {
      integers.lane[lane] = integer_of<Q>(to_computed(v.lane[lane]), scale.current(), range, found);
      scale.next();
    }
    store_vector(q + at, integers);
  } else {
    q[at] = integer_of<Q>(to_computed(x[at]), scale.current(), range, found);
  }
  if (found != 0) atomicOr(faults, found);
}

}  // namespace

template <typename T, typename Q>
void quantize(const T* x, const ScaledValues& values, const float* scales, const QuantRange& range, Q* q, int shift,
              int* faults, Stream stream) {
  if (values.count() == 0) return;
  const VectorRun run = vector_run(values.count(), x, q);
  const auto kernel = values.channels == 1 ? quantize_values<T, Q, true> : quantize_values<T, Q, false>;
  const Work work = {
      "quantize", "quantize_values", {{{"rows", values.rows}, {"channels", values.channels}, {"inner", values.inner}}}};
  launch(work, grid_of(run.items(), kThreads), stream, kernel, x, values, run, scales,
         Range{static_cast<float>(range.lo), static_cast<float>(range.hi), range.binary, shift}, q, faults);
}

template void quantize<float, std::int8_t>(const float*, const ScaledValues&, const float*, const QuantRange&,
                                           std::int8_t*, int, int*, Stream);
template void quantize<float, std::uint8_t>(const float*, const ScaledValues&, const float*, const QuantRange&,
                                            std::uint8_t*, int, int*, Stream);
template void quantize<BFloat16, std::int8_t>(const BFloat16*, const ScaledValues&, const float*, const QuantRange&,
                                              std::int8_t*, int, int*, Stream);
template void quantize<BFloat16, std::uint8_t>(const BFloat16*, const ScaledValues&, const float*, const QuantRange&,
                                               std::uint8_t*, int, int*, Stream);
template void quantize<Float16, std::int8_t>(const Float16*, const ScaledValues&, const float*, const QuantRange&,
                                             std::int8_t*, int, int*, Stream);
template void quantize<Float16, std::uint8_t>(const Float16*, const ScaledValues&, const float*, const QuantRange&,
                                              std::uint8_t*, int, int*, Stream);

}  // namespace cimq::kernels::cuda
