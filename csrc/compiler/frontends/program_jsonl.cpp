#include "compiler/frontends/program_jsonl.h"

#include "compiler/frontends/strict_json.h"

namespace cimq::compiler {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;
constexpr int kMajor = 1;
constexpr std::size_t kMaxInputs = 256;

std::string optional_text(ObjectReader& line, const char* key) { return line.has(key) ? line.text(key) : ""; }

std::int64_t count(ObjectReader& line, const char* key) { return line.integer(key, 0, kMaxCount); }

std::pair<std::int64_t, std::int64_t> range(ObjectReader& line, const char* key) {
  const auto values = line.integers(key, 0, kMaxCount, 2);
  check(values[0] < values[1], line.where(), ": ", key, " must be [begin, end) with begin < end");
  return {values[0], values[1]};
}

isa::Configure read_configure(ObjectReader& line) {
  isa::Configure i;
  i.layer = count(line, "layer");
  i.node = line.text("node");
  i.facts.layer_name = line.text("name");
  i.facts.weight_bits = static_cast<int>(line.integer("weight_bits", 1, 8));
  i.facts.act_bits = static_cast<int>(line.integer("act_bits", 1, 8));
  i.facts.act_signed = line.boolean("act_signed");
  i.facts.outputs = line.integer("outputs", 1, kMaxCount);
  i.facts.inputs_per_output = line.integer("inputs", 1, kMaxCount);
  i.facts.invocations = line.integer("invocations", 1, kMaxCount);
  i.facts.repeats = line.integer("repeats", 1, kMaxCount);
  i.slices = line.integer("slices", 1, 8);
  i.digits = line.integer("digits", 1, 8);
  i.row_tiles = line.integer("row_tiles", 1, kMaxTiles);
  i.column_tiles = line.integer("column_tiles", 1, kMaxTiles);
  return i;
}

isa::Write read_write(ObjectReader& line) {
  isa::Write i;
  i.layer = count(line, "layer");
  i.tile.number = count(line, "tile");
  i.tile.crossbar = count(line, "crossbar");
  std::tie(i.tile.row_begin, i.tile.row_end) = range(line, "rows");
  std::tie(i.tile.column_begin, i.tile.column_end) = range(line, "columns");
  i.weight = line.text("weight");
  i.repeat = optional_text(line, "repeat");
  return i;
}

isa::Mvm read_mvm(ObjectReader& line) {
  isa::Mvm i{count(line, "layer"),
             count(line, "tile"),
             count(line, "crossbar"),
             line.text("src"),
             line.text("acc"),
             optional_text(line, "at"),
             optional_text(line, "repeat"),
             0,
             0};
  std::tie(i.digit_begin, i.digit_end) = range(line, "digits");
  return i;
}

isa::Instruction read_instruction(ObjectReader& line, const std::string& op) {
  if (op == "CFG") return read_configure(line);
  if (op == "QUANT") {
    isa::Quantize i{count(line, "layer"), line.text("src"), line.text("dst"), line.text("scale"), 0, 0, 0};
    i.lo = line.integer("lo", -128, 0);
    i.hi = line.integer("hi", 0, 255);
    if (line.has("zero")) i.zero = line.integer("zero", -255, 0);
    return i;
  }
  if (op == "LOOP") return isa::Loop{line.text("var", 16), line.integer("count", 1, kMaxCount)};
  if (op == "END") return isa::End{};
  if (op == "WRITE") return read_write(line);
  if (op == "IM2COL") {
    return isa::Gather{count(line, "layer"), line.text("src"), line.text("dst"), optional_text(line, "at"),
                       optional_text(line, "repeat")};
  }
  if (op == "MVM") return read_mvm(line);
  if (op == "SHADD") {
    return isa::ShiftAdd{count(line, "layer"), line.text("acc"), line.text("dst"), optional_text(line, "repeat"),
                         line.integers("shifts", 0, 64)};
  }
  if (op == "REQ") {
    isa::Requantize i{
        count(line, "layer"), line.text("src"), line.text("dst"), line.text("multiplier"), line.text("bias"), 0, ""};
    if (line.has("zero")) {
      i.zero = line.integer("zero", -255, -1);
      i.weight = line.text("weight");
    }
    return i;
  }
  if (op == "VEC") return isa::Vector{line.text("fn"), line.texts("src", kMaxInputs), line.text("dst")};
  throw Error(message(line.where(), ": unknown op '", shown(op), "'"));
}

void read_header(ObjectReader& line, Program& program) {
  check(line.text("op") == "PROGRAM", line.where(), ": the first line must be PROGRAM");
  check(line.text("isa") == kIsaName, line.where(), ": isa must be '", kIsaName, "'");
  check(line.text("version").starts_with(message(kMajor, ".")), line.where(), ": this build reads version ", kMajor,
        ".x of the instruction set");
  program.input = line.text("input");
  program.output = line.text("output");
  program.writes = line.integer("writes", 0, INT64_MAX);
  program.mvms = line.integer("mvms", 0, INT64_MAX);
  program.hardware = Hardware::from_json(line.object("hardware").dump());
}

}  // namespace

Program read_program(std::string_view text) {
  Program program;
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    check(end != std::string_view::npos, "program.jsonl: the last line is cut short");
    const std::string where = message("program.jsonl: line ", ++number);
    const nlohmann::json json = parse_strict(text.substr(0, end), where);
    ObjectReader line(json, where);
    if (number == 1) {
      read_header(line, program);
    } else {
      const std::string op = line.text("op", 16);
      program.code.push_back(read_instruction(line, op));
    }
    line.finish();
    text.remove_prefix(end + 1);
  }
  check(number > 0, "program.jsonl: the file is empty");
  return program;
}

}  // namespace cimq::compiler
