// Every set of tile kernels that can be run here: those of the machine's instruction sets, and AMX with its tiles in
// software.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::testing {

struct KernelSet {
  std::string name;
  std::string isa;                             ///< instruction set in use besides
  const cpu::TileKernels* emulated = nullptr;  ///< null: the kernels of that instruction set
};

/// Without the last where the machine has no AVX-512 VNNI, which the rest of those kernels needs.
const std::vector<KernelSet>& kernel_sets();

/// Everything runs on a set for as long as this lives.
class UseKernels {
 public:
  explicit UseKernels(const KernelSet& set);
  ~UseKernels();
  UseKernels(const UseKernels&) = delete;
  UseKernels& operator=(const UseKernels&) = delete;
};

}  // namespace cimq::kernels::testing
