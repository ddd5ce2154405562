// cimq._C.compile_program and verify_program: layers.json and hardware in; program and tiles out.
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/copies_json.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "compiler/verify/program.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

namespace py = pybind11;

std::optional<std::string> mapping_name(const LayerMachine& machine) {
  return machine.mapping ? std::optional(std::string(name_of(*machine.mapping))) : std::nullopt;
}

py::dict layer_dict(const compiler::Module& module, std::size_t number) {
  const compiler::TiledLayer& layer = compiler::tiles_of(module)[number];
  const compiler::Node& node = module.graph.nodes[layer.node];
  const compiler::CrossbarLayer& facts = compiler::crossbar_of(node);
  py::list tiles;
  for (std::int64_t t = 0; t < layer.tiling.tiles(); ++t) {
    const compiler::isa::Region cells = layer.tiling.region(t);
    const std::int64_t crossbar =
        compiler::placement_of(module)[number].crossbar_of(0, t, facts.repeats, layer.tiling.tiles());
    tiles.append(py::make_tuple(cells.row_begin, cells.row_end, cells.column_begin, cells.column_end, crossbar));
  }
  py::dict result;
  result["name"] = facts.layer_name;
  result["node"] = node.name;
  result["op"] = std::string(compiler::name_of(node.op));
  result["outputs"] = facts.outputs;
  result["inputs"] = facts.inputs_per_output;
  result["invocations"] = facts.invocations;
  result["repeats"] = facts.repeats;
  result["weight_bits"] = facts.weight_bits;
  result["act_bits"] = facts.act_bits;
  result["machine"] = py::make_tuple(facts.machine.adc_bits, mapping_name(facts.machine));
  result["slices"] = layer.tiling.slices;
  result["digits"] = layer.tiling.digits;
  result["rows"] = layer.tiling.rows;
  result["columns"] = layer.tiling.columns;
  result["row_tiles"] = layer.tiling.row_tiles;
  result["column_tiles"] = layer.tiling.column_tiles;
  result["tiles"] = tiles;
  result["copies"] = compiler::placement_of(module)[number].copies;
  return result;
}

py::dict compile_program(const std::string& layers_json, const std::string& hardware_json,
                         const std::string& dump_after, const std::string& pipeline, const std::string& duplication,
                         bool as_json, std::int64_t batch) {
  compiler::Module module;
  compiler::Context context;
  std::string text;
  {
    const py::gil_scoped_release unlocked;
    const Hardware hardware = Hardware::from_json(hardware_json);
    context.dump_after = dump_after;
    context.batch = batch;
    if (as_json) {
      context.duplication = compiler::read_copies(duplication);
    } else {
      context.duplication = compiler::copy_rule_named(duplication);
    }
    module = compiler::compile_graph(compiler::read_layers(layers_json), hardware, compiler::pipeline_named(pipeline),
                                     context);
    text = compiler::write_program(compiler::program_of(module));
  }
  py::list layers;
  for (std::size_t i = 0; i < compiler::tiles_of(module).size(); ++i) layers.append(layer_dict(module, i));
  py::dict result;
  result["text"] = py::str(text);
  result["layers"] = layers;
  result["writes"] = compiler::program_of(module).counts.writes;
  result["mvms"] = compiler::program_of(module).counts.mvms;
  result["setup_writes"] = compiler::program_of(module).counts.setup_writes;
  result["dump"] = py::str(context.dump);
  result["chosen"] = py::str(context.chosen);
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
        py::arg("dump_after") = "", py::arg("pipeline") = "closed_form", py::arg("duplication") = "none",
        py::arg("as_json") = false, py::arg("batch") = 1,
        "Compiles a network by a pipeline: the text of program.jsonl, its totals, the tiles of every layer (first "
        "group, first copy), and the network as it is after the pass that is named. `duplication` is the name of a "
        "rule, or with `as_json` an object {layer: copies}. The program computes `batch` samples.");
  m.def("verify_program", &verify_program, py::arg("program"), py::arg("layers_json"),
        "(writes, MVMs) of a program.jsonl that fits the network; CimqError naming the line otherwise.");
}

}  // namespace cimq::python
