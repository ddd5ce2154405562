// The built-in variables of a kernel. Set by the emulation before a thread goes on.
#pragma once

#include "emulation/vector_types.h"

inline constinit thread_local uint3 threadIdx = {};
inline constinit thread_local uint3 blockIdx = {};
inline constinit thread_local dim3 blockDim = {};
inline constinit thread_local dim3 gridDim = {};
inline constexpr int warpSize = 32;
