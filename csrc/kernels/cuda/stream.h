// A CUDA stream in headers that must not see the CUDA runtime.
#pragma once

namespace cimq::kernels::cuda {

/// What cudaStream_t points to. Every launch is given one: nothing runs on the default stream by accident.
struct Stream {
  void* handle = nullptr;
};

}  // namespace cimq::kernels::cuda
