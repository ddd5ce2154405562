// Inputs of a convolution as bytes, and the change between the orders [channel][pixel] and [pixel][channel] on the way:
// libraries convolve bytes in the latter.
#pragma once

#include <cstdint>

#include "kernels/fake_quantize.h"

namespace cimq::kernels {

/// codes[i] = clamp(rint(x[i] / scale), range.lo, range.hi) + shift, which must lie within 0 and 255. Returns false if
/// a value was NaN or infinite; `codes` is then unspecified. T: float, BFloat16, Float16.
template <typename T>
bool activation_codes(const T* x, std::int64_t count, float scale, const QuantRange& range, int shift,
                      std::uint8_t* codes);

/// A run of pixels in every channel.
struct PixelRun {
  std::int64_t channels;
  std::int64_t pixels;  ///< of a channel: where the next channel begins
  std::int64_t begin;
  std::int64_t end;
};

/// activation_codes of x [channels][pixels] in the order [pixels][channels]; for the pixels of `run` alone.
template <typename T>
bool activation_codes_channels_last(const T* x, const PixelRun& run, float scale, const QuantRange& range, int shift,
                                    std::uint8_t* codes);

/// values [channels][pixels] of the `run` to `target` [pixels][channels]. T: float, BFloat16.
template <typename T>
void channels_last(const T* values, const PixelRun& run, T* target);

/// values [pixels][channels] of the `run` to `target` [channels][pixels]. T: float, BFloat16.
template <typename T>
void channels_first(const T* values, const PixelRun& run, T* target);

}  // namespace cimq::kernels
