// cimq._C.Executor: the executor of bundles for Python. Arrays cross as C-ordered float32 numpy arrays.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <utility>

#include "compiler/frontends/program_jsonl.h"
#include "python/bindings.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"
#include "runtime/manifest.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
// No forcecast: cimq.bundle converts, so that a lossy conversion is decided there and not by accident here.
using Array = py::array_t<float, py::array::c_style>;

runtime::Tensor tensor_of(const Array& x) {
  runtime::Tensor tensor;
  tensor.shape.assign(x.shape(), x.shape() + x.ndim());
  tensor.data.assign(x.data(), x.data() + x.size());
  return tensor;
}

template <typename T>
py::array array_of(std::vector<T> values, const std::vector<std::int64_t>& shape) {
  // The capsule owns the vector: the array is a view, nothing is copied.
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  const T* data = owned->data();
  const py::capsule owner(owned.get(), [](void* pointer) { delete static_cast<std::vector<T>*>(pointer); });
  owned.release();  // NOLINT(bugprone-unused-return-value): the capsule has it now
  return py::array_t<T>(shape, data, owner);
}

py::array run(const Executor& executor, const Array& x) {
  runtime::Tensor in = tensor_of(x);
  runtime::Tensor out;
  {
    const py::gil_scoped_release unlocked;
    out = executor.run(in);
  }
  return array_of(std::move(out.data), out.shape);
}

/// Of an executor or an interpreter.
template <typename Runner>
std::pair<py::array, py::dict> run_layers(const Runner& runner, const Array& x) {
  runtime::Tensor in = tensor_of(x);
  runtime::RunResult result;
  {
    const py::gil_scoped_release unlocked;
    result = runner.run_layers(in);
  }
  py::dict layers;
  for (runtime::LayerOutput& layer : result.layers) {
    layers[py::str(layer.name)] =
        layer.exact ? array_of(std::move(layer.integers), layer.shape) : array_of(std::move(layer.floats), layer.shape);
  }
  return {array_of(std::move(result.output.data), result.output.shape), layers};
}

py::list check(const Executor& executor) {
  runtime::CheckReport report;
  {
    const py::gil_scoped_release unlocked;
    report = executor.check();
  }
  py::list entries;
  for (const auto& entry : report.entries) {
    entries.append(py::make_tuple(entry.name, entry.compared, entry.different, entry.first_difference));
  }
  return entries;
}

Executor load(const std::string& path, int threads, std::optional<std::uint64_t> seed,
              std::optional<std::uint32_t> chip, std::uint64_t max_working_bytes, std::uint64_t max_operations) {
  runtime::LoadOptions options;
  options.threads = threads;
  options.seed = seed;
  options.chip = chip;
  options.max_working_bytes = max_working_bytes;
  options.max_operations = max_operations;
  const py::gil_scoped_release unlocked;
  return Executor::load(path, options);
}

std::map<std::string, std::string> read_bundle(const std::string& path, const std::vector<std::string>& names) {
  const py::gil_scoped_release unlocked;
  const runtime::BundleFolder folder(path);
  std::map<std::string, std::string> texts;
  for (const std::string& name : names) texts[name] = folder.read_text(name);
  return texts;
}

}  // namespace

void bind_runtime(py::module_& m) {
  m.def("read_bundle", &read_bundle, py::arg("path"), py::arg("names"),
        "Verifies every file of a bundle folder and returns the text of those in `names`.");
  py::class_<Executor>(m, "Executor", "Executes a bundle folder. cimq.load_bundle is the public way to it.")
      .def_static("load", &load, py::arg("path"), py::kw_only(), py::arg("threads") = 0, py::arg("seed") = py::none(),
                  py::arg("chip") = py::none(), py::arg("max_working_bytes") = runtime::LoadOptions{}.max_working_bytes,
                  py::arg("max_operations") = runtime::LoadOptions{}.max_operations)
      .def("run", &run, py::arg("x"))
      .def("run_layers", &run_layers<Executor>, py::arg("x"), "(output, {layer name: raw result}).")
      .def("check", &check, "[(name, values compared, values that differ, first difference)].")
      .def("text_of", &Executor::text_of, py::arg("file"))
      .def_property_readonly("input_shape", [](const Executor& e) { return e.graph().input_shape; })
      .def_property_readonly("threads", &Executor::threads);
  using runtime::Interpreter;
  py::class_<Interpreter>(m, "Interpreter", "Runs a program.jsonl instruction by instruction (docs/isa.md).")
      .def_static(
          "load",
          [](const std::string& path, const std::string& program) {
            const py::gil_scoped_release unlocked;
            if (program.empty()) return Interpreter::load(path);
            return Interpreter::load(path, compiler::read_program(program));
          },
          py::arg("path"), py::arg("program") = "", "The bundle's own program, or the text of another one.")
      .def("run_layers", &run_layers<Interpreter>, py::arg("x"), "(output, {layer name: raw result}).");
}

}  // namespace cimq::python
