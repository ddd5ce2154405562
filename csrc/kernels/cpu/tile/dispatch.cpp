#include "kernels/cpu/tile/dispatch.h"

#include <atomic>

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
    if (used.amx_int8) {
      kernels.matrix = amx_kernels();
      kernels.fast_bits = false;
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

std::atomic<const TileKernels*> forced{nullptr};

}  // namespace

const std::vector<TileKernels>& available_kernels() {
  static const std::vector<TileKernels> kKernels = [] {
    std::vector<TileKernels> found;
    for (const Isa& isa : available_isas()) found.push_back(kernels_of(isa.used));
    return found;
  }();
  return kKernels;
}

const TileKernels& active_kernels() {
  const TileKernels* kernels = forced.load(std::memory_order_acquire);
  return kernels != nullptr ? *kernels : available_kernels()[isa_in_use().index];
}

void force_kernels(const TileKernels* kernels) { forced.store(kernels, std::memory_order_release); }

}  // namespace cimq::kernels::cpu
