// The Python module cimq._C. One file per bound subject; each defines bind_<subject>(module).
#include <pybind11/pybind11.h>

#include "common/error.h"
#include "python/bindings.h"

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled core of cimq: importing it also registers the torch.ops.cimq operators.";
  pybind11::register_exception<cimq::Error>(m, "CimqError", PyExc_ValueError);
  cimq::python::bind_build_info(m);
  cimq::python::bind_hardware(m);
  cimq::python::bind_mapping(m);
  cimq::python::bind_kernels(m);
  cimq::python::bind_notices(m);
  cimq::python::bind_latency(m);
  cimq::python::bind_compiler(m);
  cimq::python::bind_agent(m);
  cimq::python::bind_runtime(m);
}
