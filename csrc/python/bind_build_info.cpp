#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "kernels/cpu/tile/dispatch.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

/// Vector extensions of this machine that kernels are written for, whether or not they were built.
std::vector<std::string> cpu_features() {
  std::vector<std::string> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) found.emplace_back("avx2");
  if (__builtin_cpu_supports("avx512vnni")) found.emplace_back("avx512vnni");
  if (__builtin_cpu_supports("avx512vpopcntdq")) found.emplace_back("avx512vpopcntdq");
#elif defined(__aarch64__)
  found.emplace_back("neon");
#endif
  return found;
}

std::vector<std::string> isa_available() {
  std::vector<std::string> names;
  for (const auto& kernels : kernels::cpu::available_kernels()) names.emplace_back(kernels.isa);
  return names;
}

}  // namespace

void bind_build_info(pybind11::module_& m) {
  m.def("cpu_features", &cpu_features, "Vector extensions of this machine that kernels are written for.");
  m.def("isa_available", &isa_available,
        "Instruction sets whose kernels were built and run on this machine, best first.");
  m.def(
      "isa_chosen", [] { return std::string(kernels::cpu::active_kernels().isa); },
      "The instruction set in use. Raises CimqError if CIMQ_CPU_ISA names one that is not available.");
}

}  // namespace cimq::python
