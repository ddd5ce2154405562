// Blocks of 16-bit floats to float32 and back, in the widest vectors of this machine. The values are those of
// common/float16.h on every machine.
#pragma once

#include <cstdint>
#include <vector>

#include "common/float16.h"

namespace cimq::kernels::cpu {

/// T: BFloat16, Float16.
template <typename T>
struct Float16Blocks {
  const char* isa;
  void (*widen)(const T* source, std::int64_t count, float* target);
  void (*narrow)(const float* source, std::int64_t count, T* target);
};

/// Those that this machine can run, best first.
template <typename T>
const std::vector<Float16Blocks<T>>& available_float16_blocks();

}  // namespace cimq::kernels::cpu
