#include "ops/operands.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "common/rounding.h"
#include "ops/checks.h"

namespace cimq::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 15;
constexpr double kTolerance = 1.0 / 1024.0;

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
    return std::abs(wide - nearest) <= kTolerance && integer >= range.lo && integer <= range.hi;
  }
}

/// Narrows [begin, end) without branches; returns whether all values were fine. Without `target` it only checks.
template <typename T>
bool narrow_some(const T* source, std::int64_t begin, std::int64_t end, const IntegerRange& range,
                 std::uint8_t* target) {
  if constexpr (std::is_integral_v<T>) {
    std::uint8_t bad = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const auto value = static_cast<std::int64_t>(source[i]);
      bad |= static_cast<std::uint8_t>((value < range.lo) | (value > range.hi));
      if (target != nullptr) target[i] = static_cast<std::uint8_t>(value);
    }
    return bad == 0;
  } else {
    // Adding and subtracting 1.5 * 2^23 rounds half to even for the magnitudes that matter; larger ones stay out of
    // range.
    constexpr float kShift = 12582912.0F;
    const auto lo = static_cast<float>(range.lo);
    const auto hi = static_cast<float>(range.hi);
    int bad = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      const auto value = static_cast<float>(source[i]);
      const float nearest = (value + kShift) - kShift;
      const float error = value - nearest;
      const bool fine = (nearest >= lo) & (nearest <= hi) & (error <= static_cast<float>(kTolerance)) &
                        (error >= -static_cast<float>(kTolerance));
      bad |= static_cast<int>(!fine);
      const float safe = nearest >= lo ? (nearest <= hi ? nearest : 0.0F) : 0.0F;  // an integer of NaN is undefined
      target[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(safe));
    }
    return bad == 0;
  }
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

IntegerRange activation_range(std::int64_t bits, bool is_signed) {
  const std::int64_t top = std::int64_t{1} << (is_signed ? bits - 1 : bits);
  return {is_signed ? -top : 0, top - 1};
}

IntegerRange weight_range(std::int64_t bits) {
  const std::int64_t top = std::max<std::int64_t>(1, (std::int64_t{1} << (bits - 1)) - 1);
  return {-top, top};
}

at::Tensor narrowed(const char* op, const char* name, const at::Tensor& tensor, const IntegerRange& range) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK_TYPE(type != at::kBool && (at::isIntegralType(type, false) || at::isFloatingType(type)), op, ": ", name,
                   " must be an integer tensor, or a floating one that holds integers, got ", describe(tensor));
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

}  // namespace cimq::ops
