// One record of what the processor can do, found once. Every choice between instruction sets reads it, so that
// CIMQ_CPU_ISA and force_isa() reach all of them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace cimq::kernels::cpu {

/// Extensions that kernels are written for. A new one is a member here, and a line each in processor.cpp: where it is
/// found, what it is called, which instruction sets use it.
struct Processor {
  bool avx2 = false;
  bool f16c = false;    ///< conversions of IEEE half precision
  bool avx512 = false;  ///< F, BW and VL
  bool avx512_vnni = false;
  bool avx512_vpopcntdq = false;
  bool amx_int8 = false;  ///< matrix tiles and their int8 products, which the system lets this process use
  bool neon = false;
  bool neon_dotprod = false;

  /// Of those that it has, as `cimq info` shows them.
  std::vector<std::string> names() const;
};

/// What this machine can run, whatever is asked for: also what other libraries are free to use.
const Processor& machine();

/// An instruction set as CIMQ_CPU_ISA names it: a step between "scalar" and everything that kernels are written for.
struct Isa {
  std::string name;
  std::size_t index;  ///< in available_isas()
  Processor used;     ///< what kernels use of the machine
};

/// Those that this machine can run, best first. The last is "scalar".
const std::vector<Isa>& available_isas();

/// The instruction set in use: that of CIMQ_CPU_ISA (read once) or of force_isa(). Without either the best available
/// one, and everything else that the machine has besides. Throws cimq::Error if CIMQ_CPU_ISA names one that is unknown
/// or not available.
const Isa& isa_in_use();

/// What kernels may use now.
inline const Processor& in_use() { return isa_in_use().used; }

/// What is used if CIMQ_CPU_ISA is `wanted`, null or empty: not set. Throws cimq::Error with the names to choose from.
const Isa& choose_isa(const char* wanted);

/// Everything that follows in this process runs on `isa`; empty: back to the choice made at start. For tests and
/// measurements: not synchronised with running kernels.
void force_isa(std::string_view isa);

}  // namespace cimq::kernels::cpu
