#include "python/bindings.h"

namespace cimq::python {

void bind_runtime(pybind11::module_& /*m*/) {}

}  // namespace cimq::python
