#include "without_tiles.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/amx_tiles.h"
#include "kernels/cpu/tile/dispatch.h"

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/cpu/tile/amx_kernel.h"

namespace cimq::benchmarks {
namespace {

/// Operands are computed, nothing is done with them.
struct NoTiles {
  static void configure(const kernels::cpu::TileConfig& config) { asm volatile("" : : "m"(config)); }
  static void release() {}
  template <int kTile>
  static void zero() {}
  template <int kTile>
  static void load(const std::byte* first, std::int64_t stride) {
    asm volatile("" : : "r"(first), "r"(stride) : "memory");
  }
  template <int kTile>
  static void store(std::int32_t* first, std::int64_t stride) {
    asm volatile("" : : "r"(first), "r"(stride) : "memory");
  }
  template <kernels::cpu::TileProduct kProduct, int kC, int kA, int kB>
  static void multiply() {}
};

kernels::cpu::MatrixKernels kernels_without_tiles() { return kernels::cpu::matrix_kernels<NoTiles>(); }

}  // namespace
}  // namespace cimq::benchmarks

CIMQ_TARGET_REGION_END
#endif

namespace cimq::benchmarks {

bool run_without_tiles() {
#if defined(__x86_64__)
  if (!kernels::cpu::machine().avx512_vnni) return false;
  kernels::cpu::force_isa("avx512");
  static kernels::cpu::TileKernels kernels = kernels::cpu::active_kernels();
  kernels.matrix = kernels_without_tiles();
  kernels.fast_bits = false;
  kernels::cpu::force_kernels(&kernels);
  return true;
#else
  return false;
#endif
}

}  // namespace cimq::benchmarks
