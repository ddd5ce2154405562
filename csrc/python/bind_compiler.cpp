// cimq._C.compile_program and verify_program: layers.json and hardware in, program and tile map out.
#include <pybind11/stl.h>

#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/verify.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;
using compiler::CompiledLayer;

py::dict layer_dict(const CompiledLayer& layer) {
  py::list tiles;
  for (const compiler::Tile& tile : layer.tiling.tiles) {
    tiles.append(py::make_tuple(tile.row_begin, tile.row_end, tile.column_begin, tile.column_end, tile.crossbar));
  }
  py::dict result;
  result["name"] = layer.name;
  result["node"] = layer.node;
  result["op"] = std::string(compiler::name_of(layer.op));
  result["outputs"] = layer.facts.outputs;
  result["inputs"] = layer.facts.inputs_per_output;
  result["invocations"] = layer.facts.invocations;
  result["repeats"] = layer.facts.repeats;
  result["weight_bits"] = layer.facts.weight_bits;
  result["act_bits"] = layer.facts.act_bits;
  result["slices"] = layer.tiling.slices;
  result["digits"] = layer.tiling.digits;
  result["rows"] = layer.tiling.rows;
  result["columns"] = layer.tiling.columns;
  result["row_tiles"] = layer.tiling.row_tiles;
  result["column_tiles"] = layer.tiling.column_tiles;
  result["tiles"] = tiles;
  return result;
}

py::dict compile_program(const std::string& layers_json, const std::string& hardware_json) {
  compiler::CompiledProgram compiled;
  std::string text;
  {
    const py::gil_scoped_release unlocked;
    const compiler::Graph graph = compiler::read_layers(layers_json);
    compiled = compiler::compile_graph(graph, Hardware::from_json(hardware_json));
    text = compiler::write_program(compiled.program);
  }
  py::list layers;
  for (const CompiledLayer& layer : compiled.layers) layers.append(layer_dict(layer));
  py::dict result;
  result["text"] = py::str(text);
  result["layers"] = layers;
  result["writes"] = compiled.program.writes;
  result["mvms"] = compiled.program.mvms;
  result["time_us"] = compiler::microseconds(compiled.time_ps);
  return result;
}

std::pair<std::int64_t, std::int64_t> verify_program(const std::string& program, const std::string& layers_json) {
  const py::gil_scoped_release unlocked;
  const auto counts = compiler::verify_program(compiler::read_program(program), compiler::read_layers(layers_json));
  return {counts.writes, counts.mvms};
}

}  // namespace

void bind_compiler(py::module_& m) {
  m.def("compile_program", &compile_program, py::arg("layers_json"), py::arg("hardware_json"),
        "Compiles a network: the text of program.jsonl, its totals, and the tiles of every layer.");
  m.def("verify_program", &verify_program, py::arg("program"), py::arg("layers_json"),
        "(writes, MVMs) of a program.jsonl that fits the network; CimqError naming the line otherwise.");
}

}  // namespace cimq::python
