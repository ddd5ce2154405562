// Runs a check on every set of kernels that can be run on this machine.
#pragma once

#include <catch2/catch.hpp>

#include "kernel_sets.h"

namespace cimq::kernels::testing {

template <typename Check>
void on_every_isa(const Check& check) {
  for (const KernelSet& set : kernel_sets()) {
    INFO(set.name);
    const UseKernels use(set);
    check();
  }
}

}  // namespace cimq::kernels::testing
