#include "compiler/emit/program_jsonl.h"

#include <nlohmann/json.hpp>

namespace cimq::compiler {
namespace {

using Line = nlohmann::ordered_json;

void put_loops(Line& line, const std::string& at, const std::string& repeat) {
  if (!at.empty()) line["at"] = at;
  if (!repeat.empty()) line["repeat"] = repeat;
}

struct Writer {
  Line operator()(const isa::Configure& i) const {
    return {{"op", "CFG"},
            {"layer", i.layer},
            {"name", i.facts.layer_name},
            {"node", i.node},
            {"weight_bits", i.facts.weight_bits},
            {"act_bits", i.facts.act_bits},
            {"act_signed", i.facts.act_signed},
            {"outputs", i.facts.outputs},
            {"inputs", i.facts.inputs_per_output},
            {"invocations", i.facts.invocations},
            {"repeats", i.facts.repeats},
            {"slices", i.slices},
            {"digits", i.digits},
            {"row_tiles", i.row_tiles},
            {"column_tiles", i.column_tiles}};
  }
  Line operator()(const isa::Quantize& i) const {
    Line line = {{"op", "QUANT"},    {"layer", i.layer}, {"src", i.src}, {"dst", i.dst},
                 {"scale", i.scale}, {"lo", i.lo},       {"hi", i.hi}};
    if (i.zero != 0) line["zero"] = i.zero;
    return line;
  }
  Line operator()(const isa::Loop& i) const { return {{"op", "LOOP"}, {"var", i.variable}, {"count", i.count}}; }
  Line operator()(const isa::End&) const { return {{"op", "END"}}; }
  Line operator()(const isa::Write& i) const {
    Line line = {{"op", "WRITE"},
                 {"layer", i.layer},
                 {"tile", i.tile.number},
                 {"crossbar", i.tile.crossbar},
                 {"rows", {i.tile.row_begin, i.tile.row_end}},
                 {"columns", {i.tile.column_begin, i.tile.column_end}},
                 {"weight", i.weight}};
    put_loops(line, "", i.repeat);
    return line;
  }
  Line operator()(const isa::Gather& i) const {
    Line line = {{"op", "IM2COL"}, {"layer", i.layer}, {"src", i.src}, {"dst", i.dst}};
    put_loops(line, i.at, i.repeat);
    return line;
  }
  Line operator()(const isa::Mvm& i) const {
    Line line = {{"op", "MVM"},
                 {"layer", i.layer},
                 {"tile", i.tile},
                 {"crossbar", i.crossbar},
                 {"src", i.src},
                 {"acc", i.acc},
                 {"digits", {i.digit_begin, i.digit_end}}};
    put_loops(line, i.at, i.repeat);
    return line;
  }
  Line operator()(const isa::ShiftAdd& i) const {
    Line line = {{"op", "SHADD"}, {"layer", i.layer}, {"acc", i.acc}, {"dst", i.dst}, {"shifts", i.shifts}};
    put_loops(line, "", i.repeat);
    return line;
  }
  Line operator()(const isa::Requantize& i) const {
    Line line = {{"op", "REQ"},  {"layer", i.layer},           {"src", i.src},
                 {"dst", i.dst}, {"multiplier", i.multiplier}, {"bias", i.bias}};
    if (i.zero != 0) {
      line["zero"] = i.zero;
      line["weight"] = i.weight;
    }
    return line;
  }
  Line operator()(const isa::Vector& i) const { return {{"op", "VEC"}, {"fn", i.fn}, {"src", i.src}, {"dst", i.dst}}; }
};

}  // namespace

std::string write_program(const Program& program) {
  const Line header = {{"op", "PROGRAM"},          {"isa", kIsaName},
                       {"version", kIsaVersion},   {"input", program.input},
                       {"output", program.output}, {"writes", program.writes},
                       {"mvms", program.mvms},     {"hardware", Line::parse(program.hardware.to_json())}};
  std::string text = header.dump() + "\n";
  for (const isa::Instruction& instruction : program.code) text += std::visit(Writer{}, instruction).dump() + "\n";
  return text;
}

}  // namespace cimq::compiler
