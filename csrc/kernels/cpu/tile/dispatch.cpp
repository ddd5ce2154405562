#include "kernels/cpu/tile/dispatch.h"

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/tile/tile_kernels.h"

namespace cimq::kernels::cpu {
namespace {

TileKernels kernels_of([[maybe_unused]] const Processor& used) {
#if defined(__x86_64__)
  if (used.avx512 && used.avx512_vnni) {
    TileKernels kernels = avx512_kernels();
    if (used.avx512_vpopcntdq) {
      kernels.bits = avx512_bits_kernel();
      kernels.fast_bits = true;
    }
    return kernels;
  }
  if (used.avx2) return avx2_kernels();
#elif defined(__aarch64__)
  if (used.neon) {
    TileKernels kernels = neon_kernels();
    if (used.neon_dotprod) {
      kernels.bytes = neon_dotprod_bytes_kernel();
      kernels.fast_products = true;
    }
    return kernels;
  }
#endif
  return scalar_kernels();
}

}  // namespace

const std::vector<TileKernels>& available_kernels() {
  static const std::vector<TileKernels> kKernels = [] {
    std::vector<TileKernels> found;
    for (const Isa& isa : available_isas()) found.push_back(kernels_of(isa.used));
    return found;
  }();
  return kKernels;
}

const TileKernels& active_kernels() { return available_kernels()[isa_in_use().index]; }

}  // namespace cimq::kernels::cpu
