#include "check_kernels.h"

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../kernels/kernel_sets.h"
#include "../kernels/layer_case.h"
#include "common/error.h"
#include "kernels/cpu/mvm/crossbar_conv2d.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"

namespace cimq::kernels::testing {
namespace {

/// Numbers from the fuzzer's bytes, and when those are used up from a generator that they have seeded.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    for (std::size_t j = 0; j < size; ++j) state_ = (state_ ^ data[j]) * 0x100000001B3U;
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    const auto range = static_cast<std::uint64_t>(high - low) + 1U;
    std::uint64_t value = 0;
    for (std::uint64_t span = 1; span < range; span <<= 8) value = (value << 8) | next();
    return low + static_cast<std::int64_t>(value % range);
  }
  bool chance(double p) { return next() < static_cast<std::uint8_t>(p * 256.0); }
  /// Few values, so that tables of samples are made once.
  double real(double low, double high) { return low + (high - low) * 0.25 * static_cast<double>(integer(0, 4)); }

 private:
  std::uint8_t next() {
    if (used_ < size_) return data_[used_++];
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<std::uint8_t>(state_ >> 56);
  }

  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t used_ = 0;
  std::uint64_t state_ = 0xCBF29CE484222325U;
};

/// Runs `kernel(y)` on every instruction set; bit for bit the same as `reference(y)`.
template <typename T, typename Kernel, typename Reference>
void compare(std::size_t size, const std::string& text, const Kernel& kernel, const Reference& reference) {
  std::vector<T> expected(size);
  reference(expected.data());
  for (const KernelSet& set : kernel_sets()) {
    const UseKernels use(set);
    std::vector<T> got(size);
    kernel(got.data());
    if (std::memcmp(got.data(), expected.data(), size * sizeof(T)) != 0) {
      throw std::logic_error(set.name + " differs from the reference: " + text);
    }
  }
}

/// Makes the kernel's object; nothing if the configuration is refused, which the reference must do as well.
template <typename Make, typename Reference>
auto made_or_refused(const std::string& text, const Make& make, const Reference& reference) {
  std::optional<decltype(make())> made;
  try {
    made.emplace(make());
  } catch (const Error&) {
    try {
      reference();
    } catch (const Error&) {
      return made;
    }
    throw std::logic_error("refused by the kernels, not by the reference: " + text);
  }
  return made;
}

bool check_product(Bytes& bytes, Case& c) {
  c.outputs = bytes.integer(1, bytes.chance(0.05) ? 70 : 10);
  c.inputs = bytes.integer(1, bytes.chance(0.05) ? 150 : 20);
  c.batch = bytes.integer(1, 3);
  add_column_ranges(bytes, c, c.outputs);
  const auto w = random_weights(bytes, c.outputs * c.inputs, c.options.weight_bits);
  const auto x = random_activations(bytes, c.batch * c.inputs, c.options.act_bits, c.options.act_signed);
  const auto size = static_cast<std::size_t>(c.batch * c.outputs);
  const auto reference = [&](auto* y) {
    crossbar_mvm_reference({c.hardware, w.data(), c.outputs, c.inputs, c.options}, x.data(), c.batch, y,
                           c.first_access);
  };
  std::vector<float> unused(size);
  const auto mvm = made_or_refused(
      c.text(), [&] { return cpu::CrossbarMvm({c.hardware, w.data(), c.outputs, c.inputs, c.options}); },
      [&] { reference(unused.data()); });
  if (!mvm) return false;
  const auto kernel = [&](auto* y) { mvm->run(x.data(), c.batch, y, c.first_access); };
  if (mvm->exact()) {
    compare<std::int32_t>(size, c.text(), kernel, reference);
  } else {
    compare<float>(size, c.text(), kernel, reference);
  }
  return true;
}

bool check_convolution(Bytes& bytes, Case& c) {
  Conv2dGeometry g;
  g.groups = bytes.integer(1, 2);
  g.in_channels = g.groups * bytes.integer(1, 3);
  g.out_channels = g.groups * bytes.integer(1, 9);
  g.kernel_h = bytes.integer(1, 3);
  g.kernel_w = bytes.integer(1, 3);
  g.stride_h = bytes.integer(1, 2);
  g.stride_w = bytes.integer(1, 2);
  g.pad_top = bytes.integer(0, 2);
  g.pad_bottom = bytes.integer(0, 2);
  g.pad_left = bytes.integer(0, 2);
  g.pad_right = bytes.integer(0, 2);
  g.dilation_h = bytes.integer(1, 2);
  g.dilation_w = bytes.integer(1, 2);
  const std::int64_t h = g.dilation_h * (g.kernel_h - 1) + bytes.integer(1, 3);
  const std::int64_t width = g.dilation_w * (g.kernel_w - 1) + bytes.integer(1, 3);
  const std::int64_t batch = bytes.integer(1, 2);
  add_column_ranges(bytes, c, g.out_channels);
  const auto w = random_weights(bytes, g.out_channels * g.inputs_per_output(), c.options.weight_bits);
  const auto x = random_activations(bytes, batch * g.in_channels * h * width, c.options.act_bits, c.options.act_signed);
  const auto size = static_cast<std::size_t>(batch * g.out_channels * g.out_h(h) * g.out_w(width));
  const auto reference = [&](auto* y) {
    crossbar_conv2d_reference({c.hardware, w.data(), g, c.options}, x.data(), batch, h, width, y, c.first_access);
  };
  std::vector<float> unused(size);
  const auto conv = made_or_refused(
      c.text(), [&] { return cpu::CrossbarConv2d({c.hardware, w.data(), g, c.options}); },
      [&] { reference(unused.data()); });
  if (!conv) return false;
  const auto kernel = [&](auto* y) { conv->run(x.data(), batch, h, width, y, c.first_access); };
  if (conv->exact()) {
    compare<std::int32_t>(size, "convolution " + c.text(), kernel, reference);
  } else {
    compare<float>(size, "convolution " + c.text(), kernel, reference);
  }
  return true;
}

}  // namespace

bool check_kernels(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  const bool convolution = bytes.chance(0.25);
  Case c = random_configuration(bytes);
  if (bytes.chance(0.2)) c.hardware.rows = static_cast<int>(bytes.integer(41, 300));
  c.first_access = static_cast<std::uint64_t>(bytes.integer(0, 3));
  return convolution ? check_convolution(bytes, c) : check_product(bytes, c);
}

}  // namespace cimq::kernels::testing
