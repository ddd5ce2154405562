// The operator library: schemas live beside their checks, one file per op (TORCH_LIBRARY_FRAGMENT).
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "kernels/cpu/parallel.h"

TORCH_LIBRARY(cimq, m) {
  m.set_python_module("cimq.ops");
  // Threads of torch, as many as it is told to use, and none inside a parallel region.
  cimq::kernels::cpu::use_threads([](std::int64_t count, std::int64_t grain, const auto& body) {
    at::parallel_for(0, count, grain, [&](std::int64_t begin, std::int64_t end) { body(begin, end); });
  });
}
