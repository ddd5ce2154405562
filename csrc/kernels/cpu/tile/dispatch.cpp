#include "kernels/cpu/tile/dispatch.h"

#include <atomic>
#include <cstdlib>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "common/error.h"
#include "kernels/cpu/tile/tile_kernels.h"

namespace cimq::kernels::cpu {
namespace {

std::atomic<const TileKernels*> forced{nullptr};

#if defined(__aarch64__)
bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  return true;  // every 64-bit Apple desktop processor
#else
  return false;
#endif
}
#endif

std::vector<TileKernels> find_kernels() {
  std::vector<TileKernels> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                      __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
  if (avx512) {
    found.push_back(avx512_kernels());
    if (__builtin_cpu_supports("avx512vpopcntdq") != 0) {
      found.back().bits = avx512_bits_kernel();
      found.back().fast_bits = true;
    }
  }
  if (__builtin_cpu_supports("avx2") != 0) found.push_back(avx2_kernels());
#elif defined(__aarch64__)
  if (has_dot_product()) {
    found.push_back(neon_kernels());
    found.back().isa = "neon_dotprod";
    found.back().bytes = neon_dotprod_bytes_kernel();
    found.back().fast_products = true;
  }
  found.push_back(neon_kernels());  // part of the architecture
#endif
  found.push_back(scalar_kernels());
  return found;
}

const TileKernels& chosen_at_start() {
  // A throwing initialiser runs again on the next call, so that every use of a wrong name gets the message.
  static const TileKernels& chosen = choose_kernels(std::getenv("CIMQ_CPU_ISA"));
  return chosen;
}

}  // namespace

const std::vector<TileKernels>& available_kernels() {
  static const std::vector<TileKernels> kKernels = find_kernels();
  return kKernels;
}

const TileKernels& kernels_named(std::string_view isa) {
  std::string names;
  for (const TileKernels& kernels : available_kernels()) {
    if (isa == kernels.isa) return kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels.isa);
  }
  throw Error(
      message("CIMQ_CPU_ISA: must be one of the instruction sets that this machine can run (", names, "), got ", isa));
}

const TileKernels& choose_kernels(const char* wanted) {
  if (wanted == nullptr || *wanted == '\0') return available_kernels().front();
  return kernels_named(wanted);
}

const TileKernels& active_kernels() {
  const TileKernels* kernels = forced.load(std::memory_order_acquire);
  return kernels != nullptr ? *kernels : chosen_at_start();
}

void force_isa(std::string_view isa) {
  forced.store(isa.empty() ? nullptr : &kernels_named(isa), std::memory_order_release);
}

}  // namespace cimq::kernels::cpu
