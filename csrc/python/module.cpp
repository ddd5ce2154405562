// The Python module cimq._C. One file per bound subject; each defines bind_<subject>(module).
#include <pybind11/pybind11.h>

#include <exception>

#include "common/error.h"
#include "common/printable.h"
#include "python/bindings.h"

namespace {

PyObject* error_type = nullptr;  // CimqError, alive as long as the module

/// Messages quote names from files: what those can do to a terminal, or to Python (text that is no UTF-8), is escaped.
void translate(std::exception_ptr thrown) {  // NOLINT(performance-unnecessary-value-param): pybind11 wants this type
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const cimq::Error& error) {
    PyErr_SetString(error_type, cimq::printable_lines(error.what()).c_str());
  }
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled core of cimq: importing it also registers the torch.ops.cimq operators.";
  error_type = pybind11::register_exception<cimq::Error>(m, "CimqError", PyExc_ValueError).ptr();
  pybind11::register_exception_translator(translate);  // asked before the one above
  cimq::python::bind_build_info(m);
  cimq::python::bind_hardware(m);
  cimq::python::bind_mapping(m);
  cimq::python::bind_kernels(m);
  cimq::python::bind_notices(m);
  cimq::python::bind_latency(m);
  cimq::python::bind_compiler(m);
  cimq::python::bind_simulation(m);
  cimq::python::bind_pipeline_cost(m);
  cimq::python::bind_agent(m);
  cimq::python::bind_damage_model(m);
  cimq::python::bind_knapsack(m);
  cimq::python::bind_pairwise_damage(m);
  cimq::python::bind_runtime(m);
}
