// Values that share scales by rows, as a thread meets them: which scale a value has, and in what it is computed.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "common/float16.h"
#include "kernels/cuda/device.h"
#include "kernels/fake_quantize.h"

namespace cimq::kernels::cuda {

template <typename T>
__device__ __forceinline__ Computed<T> to_computed(T value) {
  if constexpr (std::is_same_v<T, Computed<T>>) {
    return value;
  } else {
    return widened(value);
  }
}

template <typename T>
__device__ __forceinline__ T from_computed(Computed<T> value) {
  if constexpr (std::is_same_v<T, Computed<T>>) {
    return value;
  } else {
    return narrowed<T>(value);
  }
}

// Device code cannot call numeric_limits, but it can read constants.
template <typename C>
inline constexpr C kNaN = std::numeric_limits<C>::quiet_NaN();
template <typename C>
inline constexpr C kLargest = std::numeric_limits<C>::max();

/// The scale itself if it is positive and finite, else NaN, which every result computed with it then is.
template <typename C>
__device__ __forceinline__ C usable_scale(C scale) {
  return scale > C(0) && scale <= kLargest<C> ? scale : kNaN<C>;
}

/// The scale of value `at` of the flat values, then those of the values behind it. One division for a run.
template <typename C, bool kOneScale>
class ScaleWalk {
 public:
  __device__ __forceinline__ ScaleWalk(const C* scales, const ScaledValues& values, std::int64_t at)
      : scales_(scales), inner_(values.inner), channels_(values.channels) {
    if constexpr (!kOneScale) {
      const std::int64_t row = at / inner_;
      left_ = inner_ - (at - row * inner_);
      channel_ = row % channels_;
    }
    current_ = usable_scale(scales_[channel_]);
  }

  __device__ __forceinline__ C current() const { return current_; }
  __device__ __forceinline__ std::int64_t channel() const { return channel_; }

  __device__ __forceinline__ void next() {
    if constexpr (!kOneScale) {
      if (--left_ > 0) return;
      left_ = inner_;
      channel_ = channel_ + 1 == channels_ ? 0 : channel_ + 1;
      current_ = usable_scale(scales_[channel_]);
    }
  }

 private:
  const C* scales_;
  std::int64_t inner_;
  std::int64_t channels_;
  std::int64_t left_ = 0;
  std::int64_t channel_ = 0;
  C current_;
};

}  // namespace cimq::kernels::cuda
