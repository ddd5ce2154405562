#include "compiler/emit/program_jsonl.h"

#include <nlohmann/json.hpp>

namespace cimq::compiler {
namespace {

using Line = nlohmann::ordered_json;

/// 5, "p", or [5, ["p", 32], ["q", 1]] for 5 + 32 * p + q.
Line index_of(const isa::Index& index) {
  if (index.constant()) return index.base;
  if (index.base == 0 && index.terms.size() == 1 && index.terms[0].stride == 1) return index.terms[0].variable;
  Line terms = Line::array({index.base});
  for (const isa::Term& term : index.terms) terms.push_back(Line::array({term.variable, term.stride}));
  return terms;
}

/// 0 is what a missing index means.
void put_index(Line& line, const char* key, const isa::Index& index) {
  if (index != isa::Index{}) line[key] = index_of(index);
}

void put_index(Line& line, const char* key, const std::optional<isa::Index>& index) {
  if (index) line[key] = index_of(*index);
}

void put_rows(Line& line, const std::optional<isa::Rows>& rows) {
  if (!rows) return;
  line["row"] = index_of(rows->first);
  if (rows->count != 1) line["rows"] = rows->count;
}

struct Writer {
  Line operator()(const isa::Configure& i) const {
    return {{"op", "CFG"},
            {"layer", i.layer},
            {"name", i.name},
            {"node", i.node},
            {"weight_bits", i.weight_bits},
            {"act_bits", i.act_bits},
            {"act_signed", i.act_signed},
            {"outputs", i.outputs},
            {"inputs", i.inputs},
            {"invocations", i.invocations},
            {"repeats", i.repeats},
            {"slices", i.slices},
            {"digits", i.digits},
            {"row_tiles", i.row_tiles},
            {"column_tiles", i.column_tiles}};
  }
  Line operator()(const isa::Quantize& i) const {
    Line line = {{"op", "QUANT"},    {"layer", i.layer}, {"src", i.src}, {"dst", i.dst},
                 {"scale", i.scale}, {"lo", i.lo},       {"hi", i.hi}};
    if (i.zero != 0) line["zero"] = i.zero;
    if (i.operand) line["operand"] = true;
    put_rows(line, i.rows);
    return line;
  }
  Line operator()(const isa::Loop& i) const {
    Line line = {{"op", "LOOP"}, {"var", i.variable}, {"count", i.count}};
    if (i.samples) line["samples"] = true;
    return line;
  }
  Line operator()(const isa::End&) const { return {{"op", "END"}}; }
  Line operator()(const isa::Ready&) const { return {{"op", "READY"}}; }
  Line operator()(const isa::Write& i) const {
    Line line = {{"op", "WRITE"}, {"layer", i.layer}};
    line["tile"] = index_of(i.tile);
    line["crossbar"] = index_of(i.crossbar);
    if (i.region) {
      line["rows"] = {i.region->row_begin, i.region->row_end};
      line["columns"] = {i.region->column_begin, i.region->column_end};
    }
    line["weight"] = i.weight;
    put_index(line, "repeat", i.repeat);
    return line;
  }
  Line operator()(const isa::Gather& i) const {
    Line line = {{"op", "IM2COL"}, {"layer", i.layer}, {"src", i.src}, {"dst", i.dst}};
    put_index(line, "at", i.at);
    put_index(line, "repeat", i.repeat);
    put_index(line, "lane", i.lane);
    return line;
  }
  Line operator()(const isa::Mvm& i) const {
    Line line = {{"op", "MVM"}, {"layer", i.layer}};
    line["tile"] = index_of(i.tile);
    line["crossbar"] = index_of(i.crossbar);
    line["src"] = i.src;
    line["acc"] = i.acc;
    line["digits"] = {i.digit_begin, i.digit_end};
    put_index(line, "at", i.at);
    put_index(line, "repeat", i.repeat);
    put_index(line, "lane", i.lane);
    return line;
  }
  Line operator()(const isa::ShiftAdd& i) const {
    Line line = {{"op", "SHADD"}, {"layer", i.layer}, {"acc", i.acc}, {"dst", i.dst}, {"shifts", i.shifts}};
    put_index(line, "at", i.at);
    put_index(line, "repeat", i.repeat);
    return line;
  }
  Line operator()(const isa::Requantize& i) const {
    Line line = {{"op", "REQ"}, {"layer", i.layer}, {"src", i.src}, {"dst", i.dst}, {"multiplier", i.multiplier}};
    if (!i.bias.empty()) line["bias"] = i.bias;
    if (i.zero != 0) {
      line["zero"] = i.zero;
      line["weight"] = i.weight;
    }
    put_rows(line, i.rows);
    return line;
  }
  Line operator()(const isa::Vector& i) const {
    Line line = {{"op", "VEC"}, {"fn", i.fn}, {"src", i.src}, {"dst", i.dst}};
    put_rows(line, i.rows);
    return line;
  }
};

}  // namespace

std::string write_program(const Program& program) {
  Line header = {{"op", "PROGRAM"},
                 {"isa", kIsaName},
                 {"version", version_of(program)},
                 {"input", program.input},
                 {"output", program.output},
                 {"writes", program.counts.writes},
                 {"mvms", program.counts.mvms}};
  if (program.counts.setup_writes != 0) header["setup_writes"] = program.counts.setup_writes;
  if (program.batch != 1) header["batch"] = program.batch;
  header["hardware"] = Line::parse(program.hardware.to_json());
  std::string text = header.dump() + "\n";
  for (const isa::Instruction& instruction : program.code) text += std::visit(Writer{}, instruction).dump() + "\n";
  return text;
}

}  // namespace cimq::compiler
