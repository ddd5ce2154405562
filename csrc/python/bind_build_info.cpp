#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "kernels/cpu/isa/processor.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

std::vector<std::string> isa_available() {
  std::vector<std::string> names;
  for (const kernels::cpu::Isa& isa : kernels::cpu::available_isas()) names.push_back(isa.name);
  return names;
}

}  // namespace

void bind_build_info(pybind11::module_& m) {
  m.def(
      "cpu_features", [] { return kernels::cpu::machine().names(); },
      "Vector extensions of this machine that kernels are written for.");
  m.def("isa_available", &isa_available, "Instruction sets whose kernels run on this machine, best first.");
  m.def(
      "isa_chosen", [] { return kernels::cpu::isa_in_use().name; },
      "The instruction set in use. Raises CimqError if CIMQ_CPU_ISA names one that is not available.");
}

}  // namespace cimq::python
