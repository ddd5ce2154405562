#include "ops/support/trial_operands.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/macros/Macros.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

#include "common/rounding.h"

// A setting of torch's allocator for debugging that no header declares; weak, as a build may lack it.
// NOLINTBEGIN(readability-identifier-naming)
extern C10_API bool FLAGS_caffe2_cpu_allocator_do_junk_fill __attribute__((weak));
extern C10_API bool FLAGS_caffe2_cpu_allocator_do_zero_fill __attribute__((weak));
// NOLINTEND(readability-identifier-naming)

namespace cimq::ops {
namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int64_t kGuard = 4096;
constexpr std::int64_t kGrain = 1 << 15;
constexpr std::uint8_t kFirstFill = 0xFF;  // NaN in floating types
constexpr std::uint8_t kSecondFill = 0x55;

/// Steele and Vigna's mixing function of 64 bits.
std::uint64_t mixed(std::uint64_t value) {
  value += 0x9E3779B97F4A7C15U;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9U;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBU;
  return value ^ (value >> 31U);
}

/// Leaves memory behind that is not zero, for what the library takes from the system's allocator next.
void leave_stale_memory() {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::array<std::unique_ptr<void, Free>, 8> blocks;
  std::size_t bytes = std::size_t{1} << 12;
  for (auto& block : blocks) {
    block.reset(std::aligned_alloc(static_cast<std::size_t>(kAlignment), bytes));
    if (block != nullptr) std::memset(block.get(), kFirstFill, bytes);
    bytes *= 2;
  }
}

/// Memory from torch's allocator is filled while this lives. It changes no program's results: what one reads without
/// having written it is arbitrary anyway.
class JunkFill {
 public:
  JunkFill() {
    const bool zeroed = &FLAGS_caffe2_cpu_allocator_do_zero_fill != nullptr && FLAGS_caffe2_cpu_allocator_do_zero_fill;
    if (&FLAGS_caffe2_cpu_allocator_do_junk_fill == nullptr || zeroed) return;
    before_ = FLAGS_caffe2_cpu_allocator_do_junk_fill;
    FLAGS_caffe2_cpu_allocator_do_junk_fill = true;
    set_ = true;
  }
  ~JunkFill() {
    if (set_) FLAGS_caffe2_cpu_allocator_do_junk_fill = before_;
  }
  JunkFill(const JunkFill&) = delete;
  JunkFill& operator=(const JunkFill&) = delete;

 private:
  bool before_ = false;
  bool set_ = false;
};

template <typename Body>
void for_type(at::ScalarType type, const Body& body) {
  switch (type) {
    case at::kByte:
      return body(std::uint8_t{});
    case at::kChar:
      return body(std::int8_t{});
    case at::kFloat:
      return body(float{});
    case at::kDouble:
      return body(double{});
    default:
      TORCH_CHECK(false, "trial: no integers of type ", c10::toString(type));
  }
}

}  // namespace

at::Tensor guarded(const at::Tensor& like, std::uint8_t fill) {
  const auto bytes = static_cast<std::int64_t>(like.nbytes());
  const auto total = static_cast<std::size_t>(ceil_div(bytes, kAlignment) * kAlignment + 2 * kGuard);
  auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(static_cast<std::size_t>(kAlignment), total));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, fill, total);
  return at::from_blob(
      memory + kGuard, like.sizes(), like.strides(), [memory](void*) { std::free(memory); }, like.options());
}

void fill_activations(at::Tensor& x, const IntegerRange& range) {
  const auto span = static_cast<std::uint64_t>(range.hi - range.lo + 1);
  const auto near = static_cast<std::int64_t>(std::min<std::uint64_t>(4, span));
  for_type(x.scalar_type(), [&]<typename T>(T) {
    T* data = x.mutable_data_ptr<T>();
    at::parallel_for(0, x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::uint64_t group = mixed(static_cast<std::uint64_t>(i / 4));
        const std::uint64_t own = mixed(static_cast<std::uint64_t>(i) + (std::uint64_t{1} << 40U));
        const bool lowest = (group & 2U) != 0 && -range.lo >= range.hi;
        const std::int64_t extreme = lowest ? range.lo + static_cast<std::int64_t>(own % 4) % near
                                            : range.hi - static_cast<std::int64_t>(own % 4) % near;
        data[i] = static_cast<T>((group & 1U) != 0 ? extreme : range.lo + static_cast<std::int64_t>(own % span));
      }
    });
  });
}

void fill_weights(at::Tensor& w, const IntegerRange& range) {
  const std::int64_t channels = w.size(1);
  const std::int64_t positions = w.numel() / std::max<std::int64_t>(1, w.size(0) * channels);
  const std::int64_t top = range.hi;
  const std::uint64_t steps = 1 + static_cast<std::uint64_t>(top) / 16;
  const bool last = w.dim() == 4 && !w.is_contiguous();  // channels-last order
  for_type(w.scalar_type(), [&]<typename T>(T) {
    T* data = w.mutable_data_ptr<T>();
    at::parallel_for(0, w.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t o = i / (channels * positions);
        const std::int64_t inner = i % (channels * positions);
        const std::int64_t channel = last ? inner % channels : inner / positions;
        const std::int64_t position = last ? inner / channels : inner % positions;
        const std::int64_t group = (o * positions + position) * ceil_div(channels, std::int64_t{4}) + channel / 4;
        const auto size = top - static_cast<std::int64_t>(mixed(static_cast<std::uint64_t>(i)) % steps);
        data[i] = static_cast<T>((mixed(static_cast<std::uint64_t>(group)) & 1U) != 0 ? size : -size);
      }
    });
  });
}

Fault compare_sums(const at::Tensor& results, const at::Tensor& sums, const ResultScale& scale) {
  if (results.sizes() != sums.sizes()) return "it gives the shape " + c10::str(results.sizes());
  const auto type = results.scalar_type();
  // What one rounding of the result's type, and for sums beyond 24 bits that of float32 before a bias, may do.
  const double unit_of_type = type == at::kBFloat16 ? 0x1p-8 : type == at::kFloat ? 0x1p-23 : 0.0;
  const double held = type == at::kBFloat16 ? 0x1p8 : type == at::kFloat ? 0x1p24 : 0x1p53;
  const at::Tensor values = results.to(type == at::kBFloat16 ? at::kFloat : type).contiguous();
  const at::Tensor exact = sums.contiguous();
  const auto* wanted = exact.const_data_ptr<std::int32_t>();
  const std::int64_t inner =
      exact.dim() > 2 ? exact.numel() / std::max<std::int64_t>(1, exact.size(0) * exact.size(1)) : 1;
  const std::int64_t outputs = exact.dim() > 1 ? exact.size(1) : 1;
  const auto* offsets = scale.offsets.has_value() ? scale.offsets->const_data_ptr<std::int32_t>() : nullptr;
  std::atomic<std::int64_t> wrong = 0;
  std::atomic<std::int64_t> first = std::numeric_limits<std::int64_t>::max();
  const auto sum_at = [&](std::int64_t i) {
    return static_cast<double>(wanted[i]) + (offsets == nullptr ? 0.0 : offsets[i / inner % outputs]);
  };
  const auto compare = [&](const auto* found) {
    at::parallel_for(0, exact.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t count = 0;
      for (std::int64_t i = begin; i < end; ++i) {
        const double sum = sum_at(i);
        const double size = std::abs(sum);
        const double allowed =
            size <= held && std::abs(static_cast<double>(wanted[i])) <= held ? 0.0 : size * unit_of_type;
        const bool right = std::abs(static_cast<double>(found[i]) / scale.unit - sum) <= allowed;  // NaN is not
        if (right) continue;
        std::int64_t before = first;
        while (i < before && !first.compare_exchange_weak(before, i)) {
        }
        ++count;
      }
      wrong += count;
    });
  };
  if (type == at::kInt) {
    compare(values.const_data_ptr<std::int32_t>());
  } else if (type == at::kDouble) {
    compare(values.const_data_ptr<double>());
  } else {
    compare(values.const_data_ptr<float>());
  }
  if (wrong == 0) return std::nullopt;
  const double got = values.view({-1})[first.load()].item<double>() / scale.unit;
  return c10::str(wrong.load(), " of ", exact.numel(), " sums are wrong, the first is ", got, " instead of ",
                  sum_at(first));
}

Fault try_product(const at::Tensor& x, const at::Tensor& w, const at::Tensor& sums, const ResultScale& scale,
                  const std::function<at::Tensor(const at::Tensor& x, const at::Tensor& w)>& product) {
  for (const std::uint8_t fill : {kFirstFill, kSecondFill}) {
    at::Tensor x_here = guarded(x, fill);
    at::Tensor w_here = guarded(w, fill);
    std::memcpy(x_here.mutable_data_ptr(), x.const_data_ptr(), x.nbytes());
    std::memcpy(w_here.mutable_data_ptr(), w.const_data_ptr(), w.nbytes());
    std::optional<JunkFill> junk;
    if (fill == kFirstFill) {
      junk.emplace();
      leave_stale_memory();
    }
    const at::Tensor results = product(x_here, w_here);
    junk.reset();
    if (Fault fault = compare_sums(results, sums, scale)) return fault;
  }
  return std::nullopt;
}

}  // namespace cimq::ops
