// Images in the orders [channel][pixel] and [pixel][channel], one from the other: libraries are quicker in the latter.
#pragma once

#include <cstdint>

#include "kernels/fake_quantize.h"

namespace cimq::kernels {

/// A run of pixels in every channel.
struct PixelRun {
  std::int64_t channels;
  std::int64_t pixels;  ///< of a channel: where the next channel begins
  std::int64_t begin;
  std::int64_t end;
};

namespace cpu {

/// quantize of x [channels][pixels] in the order [pixels][channels]; for the pixels of `run` alone. T: float, BFloat16.
template <typename T>
bool quantize_channels_last(const T* x, const PixelRun& run, float scale, const QuantRange& range, int shift,
                            std::uint8_t* q);

/// fake_quantize_backward for the pixels of `run`, with x and dx [channels][pixels], grad and levels
/// [pixels][channels]. T: float, BFloat16.
template <typename T>
double fake_quantize_backward_channels_last(const T* grad, const T* x, const PixelRun& run, float scale,
                                            const QuantRange& range, T* dx, T* levels);

/// values [channels][pixels] of the `run` to `target` [pixels][channels]. T: float, BFloat16.
template <typename T>
void channels_last(const T* values, const PixelRun& run, T* target);

/// values [pixels][channels] of the `run` to `target` [channels][pixels]. T: float, BFloat16.
template <typename T>
void channels_first(const T* values, const PixelRun& run, T* target);

}  // namespace cpu
}  // namespace cimq::kernels
