#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/scaled_values.h"
#include "kernels/cuda/vector_access.h"
#include "kernels/formula/integers.h"
#include "kernels/narrow.h"

namespace cimq::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

struct Allowed {
  std::int32_t lo;
  std::int32_t hi;
  bool zero;
};

/// The byte of one value; `bad` becomes true where it is not allowed.
template <typename T>
__device__ __forceinline__ std::uint8_t byte_of(T value, const Allowed& allowed, bool& bad) {
  std::int32_t integer = 0;
  if constexpr (std::is_integral_v<T>) {
    const bool inside = value >= allowed.lo && value <= allowed.hi;
    bad = bad || !inside;
    integer = inside ? static_cast<std::int32_t>(value) : 0;
  } else {
    const auto lo = static_cast<float>(allowed.lo);
    const auto hi = static_cast<float>(allowed.hi);
    const NearestInteger nearest = nearest_integer(static_cast<float>(to_computed(value)), lo, hi);
    bad = bad || nearest.bad != 0;
    integer = integer_or_zero(nearest, lo, hi);
  }
  bad = bad || (!allowed.zero && integer == 0);
  return static_cast<std::uint8_t>(integer);
}

/// A thread has one item of the run.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    narrow_values(const T* x, VectorRun run, Allowed allowed, std::uint8_t* bytes, int fault, int* faults) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= run.items()) return;
  const std::int64_t at = run.begin(item);
  bool bad = false;
  if constexpr (sizeof(T) <= 4) {
    if (run.is_vector(item)) {
      const Vector<T> v = load_vector(x + at);
      Vector<std::uint8_t, kLanesOf<T>> narrow_v;
#pragma unroll
      for (int lane = 0; lane < kLanesOf<T>; ++lane) narrow_v.lane[lane] = byte_of(v.lane[lane], allowed, bad);
      if (bytes != nullptr) store_vector(bytes + at, narrow_v);
      if (bad) atomicOr(faults, fault);
      return;
    }
  }
  const std::uint8_t byte = byte_of(x[at], allowed, bad);
  if (bytes != nullptr) bytes[at] = byte;
  if (bad) atomicOr(faults, fault);
}

}  // namespace

template <typename T>
void narrow(const T* x, std::int64_t count, const AllowedIntegers& allowed, std::uint8_t* bytes, int fault, int* faults,
            Stream stream) {
  if (count == 0) return;
  VectorRun run = {count, 0, 0, 1};  // two values of 8 bytes are no vector of bytes
  if constexpr (sizeof(T) <= 4) run = vector_run(count, x, bytes);
  const Work work = {"narrow", "narrow_values", {{{"values", count}}}};
  const Allowed limits = {static_cast<std::int32_t>(allowed.range.lo), static_cast<std::int32_t>(allowed.range.hi),
                          allowed.zero};
  launch(work, grid_of(run.items(), kThreads), stream, narrow_values<T>, x, run, limits, bytes, fault, faults);
}

#define CIMQ_NARROW(T) \
  template void narrow<T>(const T*, std::int64_t, const AllowedIntegers&, std::uint8_t*, int, int*, Stream)

CIMQ_NARROW(std::uint8_t);
CIMQ_NARROW(std::int8_t);
CIMQ_NARROW(std::int16_t);
CIMQ_NARROW(std::int32_t);
CIMQ_NARROW(std::int64_t);
CIMQ_NARROW(float);
CIMQ_NARROW(double);
CIMQ_NARROW(BFloat16);
CIMQ_NARROW(Float16);

#undef CIMQ_NARROW

}  // namespace cimq::kernels::cuda
