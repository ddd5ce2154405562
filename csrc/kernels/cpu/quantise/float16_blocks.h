// Blocks of 16-bit floats to float32 and back, in the widest vectors that may be used. The values are those of
// common/float16.h on every machine.
#pragma once

#include <cstdint>

#include "common/float16.h"
#include "kernels/cpu/isa/processor.h"

namespace cimq::kernels::cpu {

/// T: BFloat16, Float16.
template <typename T>
struct Float16Blocks {
  void (*widen)(const T* source, std::int64_t count, float* target);
  void (*narrow)(const float* source, std::int64_t count, T* target);
};

template <typename T>
Float16Blocks<T> float16_blocks(const Processor& used);

}  // namespace cimq::kernels::cpu
