// Tables of partial sums (sum_tables.h) in 256-bit vectors, 128-bit ones for narrow panels.
#if defined(__x86_64__)
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/isa/target_region.h"
#include "kernels/cpu/isa/x86_intrinsics.h"
#include "kernels/cpu/tile/tile_kernels.h"

CIMQ_TARGET_REGION("avx2")

#include "kernels/cpu/tile/code_ops_x86.h"

namespace cimq::kernels::cpu {
namespace {
constexpr int kRowsAtOnce = 4;  // 16 registers
}
}  // namespace cimq::kernels::cpu

#include "kernels/cpu/tile/sum_tables.h"

namespace cimq::kernels::cpu {

SumTables avx2_sum_tables() { return {run_strips<std::uint8_t, 32>, run_strips<std::uint16_t, 32>}; }

}  // namespace cimq::kernels::cpu

CIMQ_TARGET_REGION_END
#endif
