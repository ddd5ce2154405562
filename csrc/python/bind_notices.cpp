#include <pybind11/functional.h>

#include <stdexcept>

#include "ops/support/notices.h"
#include "python/bindings.h"

namespace cimq::python {

void bind_notices(pybind11::module_& m) {
  m.def(
      "on_notice",
      [](const pybind11::function& listener) {
        // Never destroyed: the process may end after Python.
        auto* kept = new pybind11::function(listener);
        ops::on_notice([kept](const std::string& text) {
          const pybind11::gil_scoped_acquire gil;
          try {
            (*kept)(text);
          } catch (const pybind11::error_already_set& error) {
            throw std::runtime_error(error.what());  // torch knows nothing of pybind11's exceptions
          }
        });
      },
      pybind11::arg("listener"), "Calls `listener(text)` for every notice of the operators.");
}

}  // namespace cimq::python
