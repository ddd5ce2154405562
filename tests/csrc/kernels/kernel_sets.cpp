#include "kernel_sets.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/dispatch.h"
#include "software_tiles.h"

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/cpu/tile/amx_kernel.h"

namespace cimq::kernels::testing {
namespace {

cpu::MatrixKernels software_amx_kernels() { return cpu::matrix_kernels<SoftwareTiles>(); }

}  // namespace
}  // namespace cimq::kernels::testing

CIMQ_TARGET_REGION_END
#endif

namespace cimq::kernels::testing {
namespace {

std::vector<KernelSet> find_sets() {
  std::vector<KernelSet> sets;
  for (const cpu::Isa& isa : cpu::available_isas()) {
    sets.push_back({isa.name, isa.name});
#if defined(__x86_64__)
    if (isa.name != "avx512") continue;
    static cpu::TileKernels emulated = cpu::available_kernels()[isa.index];
    emulated.matrix = software_amx_kernels();
    emulated.fast_bits = false;
    sets.push_back({"amx_in_software", isa.name, &emulated});
#endif
  }
  return sets;
}

}  // namespace

const std::vector<KernelSet>& kernel_sets() {
  static const std::vector<KernelSet> kSets = find_sets();
  return kSets;
}

UseKernels::UseKernels(const KernelSet& set) {
  cpu::force_isa(set.isa);
  cpu::force_kernels(set.emulated);
}

UseKernels::~UseKernels() {
  cpu::force_kernels(nullptr);
  cpu::force_isa("");
}

}  // namespace cimq::kernels::testing
