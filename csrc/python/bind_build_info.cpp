#include "python/bindings.h"

namespace cimq::python {

void bind_build_info(pybind11::module_& m) {
  m.def(
      "isa_available",
      [] {
        pybind11::list found;
#if defined(__x86_64__)
        __builtin_cpu_init();
        if (__builtin_cpu_supports("avx2")) found.append("avx2");
        if (__builtin_cpu_supports("avx512vnni")) found.append("avx512vnni");
        if (__builtin_cpu_supports("avx512vpopcntdq")) found.append("avx512vpopcntdq");
#elif defined(__aarch64__)
        found.append("neon");
#endif
        return found;
      },
      "Vector instruction sets of this machine that cimq has kernels for or plans its kernels by.");
}

}  // namespace cimq::python
