// Runs a check on every instruction set of this machine.
#pragma once

#include <catch2/catch.hpp>

#include "kernels/cpu/isa/processor.h"

namespace cimq::kernels::testing {

template <typename Check>
void on_every_isa(const Check& check) {
  for (const cpu::Isa& isa : cpu::available_isas()) {
    INFO(isa.name);
    cpu::force_isa(isa.name);
    check();
    cpu::force_isa("");
  }
}

}  // namespace cimq::kernels::testing
