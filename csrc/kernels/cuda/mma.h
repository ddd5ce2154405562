// Int8 tensor cores: mma.sync m16n8k32, ldmatrix and cp.async, as PTX defines them for compute capability 8.0 and
// later. The emulation of the tests has the same functions in software.
//
// Which lane holds what of D[16, 8] = A[16, 32] . B[32, 8] + C (PTX ISA, "Matrix Fragments for mma.m16n8k32" of 8-bit
// types), with row = lane / 4 and quarter = lane % 4; the lowest byte of a register is the lowest k:
//   a[0], a[2]: A[row, 4 quarter .. + 3] and 16 columns on;  a[1], a[3]: the same of row + 8
//   b[0], b[1]: B[4 quarter .. + 3, row] and 16 rows on (columns of B are numbered by lane / 4)
//   c[0], c[1]: C[row, 2 quarter .. + 1];                    c[2], c[3]: the same of row + 8
// Lines of 32 bytes, [16][32] of A and [8][32] of the transposed B, thus arrive as 16-byte pieces by ldmatrix.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.h"
#include "kernels/cuda/shared_memory.h"

#if defined(CIMQ_CUDA_EMULATION)

#include "emulation/matrix_functions.h"

namespace cimq::kernels::cuda {
using emulation::commit_copies;
using emulation::copy_async;
using emulation::fresh;
using emulation::load_matrices;
using emulation::multiply_add;
using emulation::wait_for_copies;
}  // namespace cimq::kernels::cuda

#else

namespace cimq::kernels::cuda {

/// d = a . b + c, modulo 2^32. All lanes of the warp take part.
template <bool kSignedA, bool kSignedB>
__device__ __forceinline__ void multiply_add(std::int32_t (&d)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2], const std::int32_t (&c)[4]) {
#define CIMQ_MMA(types)                                                                                             \
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32." types                                                       \
               ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"                           \
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]), "r"(c[2]), \
                 "r"(c[3]))
  if constexpr (kSignedA && kSignedB) {
    CIMQ_MMA("s8.s8");
  } else if constexpr (kSignedA) {
    CIMQ_MMA("s8.u8");
  } else if constexpr (kSignedB) {
    CIMQ_MMA("u8.s8");
  } else {
    CIMQ_MMA("u8.u8");
  }
#undef CIMQ_MMA
}

/// Four 8 x 16-byte matrices: lane 8 j + i gives where row i of matrix j lies (value `index` of `from`, at a multiple
/// of 16 bytes); to[j] gets the bytes 4 quarter .. + 3 of row lane / 4 of matrix j.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], SharedArray<std::uint8_t> from, int index) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(from.address(index))
               : "memory");
}

/// `value`, of which the compiler must not know that it has seen it before: what is computed from it in a loop is
/// computed there, and not kept in registers around the loop.
__device__ __forceinline__ int fresh(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// Begins to copy 16 bytes from global memory, or 16 zeros where not `valid`. Both places are multiples of 16 bytes.
__device__ __forceinline__ void copy_async(SharedArray<std::uint8_t> to, int index, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to.address(index)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}

/// The thread's copies so far are a group.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most the thread's kGroups latest groups are under way. Other threads see the bytes after a barrier.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kGroups) : "memory");
}

}  // namespace cimq::kernels::cuda

#endif
