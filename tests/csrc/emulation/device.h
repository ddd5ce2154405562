// What <cuda_runtime.h> is under nvcc: the part of CUDA C++ that the kernels of csrc/kernels/cuda use, as plain C++.
// Names and meanings are CUDA's; what it leaves undefined is a Fault where it can be seen (emulation/block.h).
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

#include "emulation/device_variables.h"
#include "emulation/scalar_functions.h"
#include "emulation/vector_types.h"
#include "emulation/warp_functions.h"
