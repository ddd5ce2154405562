// Threads over the elements of images: one each.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"

namespace cimq::kernels::cuda {

constexpr unsigned kImageThreads = 256;

/// An element of images [planes, height, width].
struct ImagePlace {
  std::int64_t plane;
  std::int64_t row;
  std::int64_t column;
};

/// Where element `item` lies. Index: a division of 64 bits takes as long as the rest of a small window.
template <typename Index>
__device__ __forceinline__ ImagePlace image_place(std::int64_t item, std::int64_t height, std::int64_t width) {
  const auto of_plane = static_cast<Index>(height) * static_cast<Index>(width);
  const auto at = static_cast<Index>(item);
  const Index plane = at / of_plane;
  const Index in_plane = at - plane * of_plane;
  const Index row = in_plane / static_cast<Index>(width);
  return {static_cast<std::int64_t>(plane), static_cast<std::int64_t>(row),
          static_cast<std::int64_t>(in_plane - row * static_cast<Index>(width))};
}

/// Starts one thread per element: narrow(uint32) or wide(uint64) are the kernels, for which both are given.
template <typename... Parameters>
void launch_on_images(const Work& work, std::int64_t elements, Stream stream, void (*narrow)(Parameters...),
                      void (*wide)(Parameters...), std::type_identity_t<Parameters>... arguments) {
  if (elements == 0) return;
  const bool fits = elements <= std::numeric_limits<std::uint32_t>::max();
  launch(work, grid_of(elements, kImageThreads), stream, fits ? narrow : wide, arguments...);
}

}  // namespace cimq::kernels::cuda
