// What the source of a kernel sees of the device: under nvcc the CUDA runtime, in the emulation of the tests
// (CIMQ_CUDA_EMULATION) plain C++ that supplies the same names. Sources of kernels include this and nothing of CUDA.
#pragma once

#if defined(CIMQ_CUDA_EMULATION)
#include "emulation/device.h"
#else
#include <cuda_runtime.h>
#endif
