#include "ops/support/operands.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

#include "common/rounding.h"
#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/formula/integers.h"
#include "ops/support/checks.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 15;

/// The integer that `value` stands for; false if it is none or out of range.
template <typename T>
bool integer_of(T value, const IntegerRange& range, std::int64_t& integer) {
  if constexpr (std::is_integral_v<T>) {
    integer = static_cast<std::int64_t>(value);
    return integer >= range.lo && integer <= range.hi;
  } else {
    const auto wide = static_cast<double>(value);
    if (!(wide >= static_cast<double>(range.lo) - 0.5 && wide <= static_cast<double>(range.hi) + 0.5)) return false;
    const double nearest = round_half_even(wide);
    integer = static_cast<std::int64_t>(nearest);
    return std::abs(wide - nearest) <= kernels::kIntegerTolerance && integer >= range.lo && integer <= range.hi;
  }
}

/// narrow_some() of floating values.
template <typename T>
[[gnu::always_inline]] inline bool narrow_floats(const T* source, std::int64_t begin, std::int64_t end,
                                                 const IntegerRange& range, std::uint8_t* target) {
  const auto lo = static_cast<float>(range.lo);
  const auto hi = static_cast<float>(range.hi);
  int bad = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const kernels::NearestInteger value = kernels::nearest_integer(static_cast<float>(source[i]), lo, hi);
    bad |= value.bad;
    target[i] = static_cast<std::uint8_t>(kernels::integer_or_zero(value, lo, hi));
  }
  return bad == 0;
}

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx2")
bool narrow_avx2(const float* source, std::int64_t begin, std::int64_t end, const IntegerRange& range,
                 std::uint8_t* target) {
  return narrow_floats(source, begin, end, range, target);
}
CIMQ_TARGET_REGION_END

CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl")
bool narrow_avx512(const float* source, std::int64_t begin, std::int64_t end, const IntegerRange& range,
                   std::uint8_t* target) {
  return narrow_floats(source, begin, end, range, target);
}
CIMQ_TARGET_REGION_END
#endif

/// Narrows [begin, end) without branches, what training passes in the widest vectors that may be used; returns whether
/// all values were fine. Without `target` it only checks.
template <typename T>
bool narrow_some(const T* source, std::int64_t begin, std::int64_t end, const IntegerRange& range,
                 std::uint8_t* target) {
  if constexpr (std::is_integral_v<T>) {
    // In the type of the values, so that the loop over bytes is one over whole vectors.
    using Limits = std::numeric_limits<T>;
    const auto lo = static_cast<T>(std::max<std::int64_t>(range.lo, Limits::min()));
    const auto hi = static_cast<T>(std::min<std::int64_t>(range.hi, Limits::max()));
    std::uint8_t bad = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      bad = static_cast<std::uint8_t>(bad | static_cast<std::uint8_t>((source[i] < lo) | (source[i] > hi)));
    }
    if (target != nullptr) {
      for (std::int64_t i = begin; i < end; ++i) target[i] = static_cast<std::uint8_t>(source[i]);
    }
    return bad == 0;
  } else {
#if defined(__x86_64__)
    if constexpr (std::is_same_v<T, float>) {
      if (kernels::cpu::in_use().avx512) return narrow_avx512(source, begin, end, range, target);
      if (kernels::cpu::in_use().avx2) return narrow_avx2(source, begin, end, range, target);
    }
#endif
    return narrow_floats(source, begin, end, range, target);
  }
}

/// What a range of values is found to be.
struct Found {
  bool fine = true;       ///< integers in range, give or take the tolerance
  bool precisely = true;  ///< without any difference
};

/// Writes the integers of [begin, end) as float32 to `target`; without it they are only looked at.
template <typename T>
[[gnu::always_inline]] inline Found float_some(const T* source, std::int64_t begin, std::int64_t end,
                                               const IntegerRange& range, float* target) {
  const auto lo = static_cast<float>(range.lo);
  const auto hi = static_cast<float>(range.hi);
  int bad = 0;
  int off = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const kernels::NearestInteger value = kernels::nearest_integer(static_cast<float>(source[i]), lo, hi);
    bad |= value.bad;
    off |= static_cast<int>(value.error != 0.0F);
    if (target != nullptr) target[i] = value.integer;
  }
  return {bad == 0, off == 0};
}

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx2")
Found look_at_avx2(const float* source, std::int64_t begin, std::int64_t end, const IntegerRange& range) {
  return float_some(source, begin, end, range, nullptr);
}
CIMQ_TARGET_REGION_END
#endif

/// float_some() without a target for what training passes, in the widest vectors that may be used.
Found look_at(const float* source, std::int64_t begin, std::int64_t end, const IntegerRange& range) {
#if defined(__x86_64__)
  if (kernels::cpu::in_use().avx2) return look_at_avx2(source, begin, end, range);
#endif
  return float_some(source, begin, end, range, nullptr);
}

template <typename T>
Found floats_at(const T* source, std::int64_t begin, std::int64_t end, const IntegerRange& range, float* target) {
  if constexpr (std::is_same_v<T, float>) {
    if (target == nullptr) return look_at(source, begin, end, range);
  }
  return float_some(source, begin, end, range, target);
}

template <typename T>
[[noreturn]] void refuse(const char* op, const char* name, const T* source, std::int64_t count,
                         const IntegerRange& range) {
  std::int64_t integer = 0;
  std::int64_t i = 0;
  while (i < count - 1 && integer_of(source[i], range, integer)) ++i;
  TORCH_CHECK_VALUE(false, op, ": ", name, " must hold integers in ", range.lo, "..", range.hi, ", got ",
                    static_cast<double>(source[i]), " at flat index ", i);
}

}  // namespace

void check_integer_type(const char* op, const char* name, const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK_TYPE(type != at::kBool && (at::isIntegralType(type, false) || at::isFloatingType(type)), op, ": ", name,
                   " must be an integer tensor, or a floating one that holds integers, got ", describe(tensor));
}

at::Tensor narrowed(const char* op, const char* name, const at::Tensor& tensor, const IntegerRange& range) {
  const auto type = tensor.scalar_type();
  check_integer_type(op, name, tensor);
  const at::Tensor source = tensor.contiguous();
  const auto target_type = range.lo >= 0 ? at::kByte : at::kChar;
  // One byte of the right kind needs no copy, only the check.
  const bool in_place = type == target_type;
  at::Tensor result = in_place ? source : at::empty(source.sizes(), source.options().dtype(target_type));
  const std::int64_t count = source.numel();
  auto* target = in_place ? nullptr : static_cast<std::uint8_t*>(result.mutable_data_ptr());
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, type, "cimq_narrowed", [&] {
    const scalar_t* values = source.const_data_ptr<scalar_t>();
    std::atomic<bool> fine = true;
    at::parallel_for(0, count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      if (!narrow_some(values, begin, end, range, target)) fine = false;
    });
    if (!fine) refuse(op, name, values, count, range);
  });
  return result;
}

at::Tensor as_floats(const char* op, const char* name, const at::Tensor& tensor, const IntegerRange& range) {
  check_integer_type(op, name, tensor);
  const auto type = tensor.scalar_type();
  const at::Tensor source = tensor.contiguous();
  const std::int64_t count = source.numel();
  if (at::isIntegralType(type, false)) {
    AT_DISPATCH_INTEGRAL_TYPES(type, "cimq_as_floats", [&] {
      const scalar_t* values = source.const_data_ptr<scalar_t>();
      std::atomic<bool> fine = true;
      at::parallel_for(0, count, kGrain, [&](std::int64_t begin, std::int64_t end) {
        if (!narrow_some(values, begin, end, range, nullptr)) fine = false;
      });
      if (!fine) refuse(op, name, values, count, range);
    });
    return source.to(at::kFloat);
  }
  at::Tensor result = source;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "cimq_as_floats", [&] {
    const scalar_t* values = source.const_data_ptr<scalar_t>();
    const auto run = [&](float* target) {
      std::atomic<bool> fine = true;
      std::atomic<bool> precisely = true;
      at::parallel_for(0, count, kGrain, [&](std::int64_t begin, std::int64_t end) {
        const Found found = floats_at(values, begin, end, range, target);
        if (!found.fine) fine = false;
        if (!found.precisely) precisely = false;
      });
      if (!fine) refuse(op, name, values, count, range);
      return precisely.load();
    };
    if (std::is_same_v<scalar_t, float> && run(nullptr)) return;
    result = at::empty(source.sizes(), source.options().dtype(at::kFloat));
    run(result.mutable_data_ptr<float>());
  });
  return result;
}

}  // namespace cimq::ops
