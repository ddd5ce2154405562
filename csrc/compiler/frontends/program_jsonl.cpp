#include "compiler/frontends/program_jsonl.h"

#include <optional>

#include "compiler/frontends/strict_json.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {
namespace {

constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;
constexpr int kMajor = 1;
constexpr std::size_t kMaxVariable = 16;  // bytes of a loop variable's name
constexpr std::size_t kMaxTerms = 8;

std::int64_t count(ObjectReader& line, const char* key) { return line.integer(key, 0, kMaxCount); }

std::pair<std::int64_t, std::int64_t> range(ObjectReader& line, const char* key) {
  const auto values = line.integers(key, 0, kMaxCount, 2);
  check(values[0] < values[1], line.where(), ": ", key, " must be [begin, end) with begin < end");
  return {values[0], values[1]};
}

/// 5, "p", or [5, ["p", 32], ["q", 1]].
isa::Index index(ObjectReader& line, const char* key) {
  if (line.is_text(key)) return isa::counted(line.text(key, kMaxVariable));
  if (!line.is_array(key)) return {count(line, key), {}};
  const nlohmann::json& parts = line.array(key, kMaxTerms + 1);
  const auto is_count = [](const nlohmann::json& value) {
    return value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(kMaxCount);
  };
  const auto is_term = [&](const nlohmann::json& value) {
    return value.is_array() && value.size() == 2 && value[0].is_string() &&
           value[0].get_ref<const std::string&>().size() <= kMaxVariable && is_count(value[1]) && value[1] != 0;
  };
  bool valid = parts.size() >= 2 && is_count(parts[0]);
  for (std::size_t i = 1; valid && i < parts.size(); ++i) valid = is_term(parts[i]);
  check(valid, line.where(), ": ", key, " must be a count, a loop variable, or [count, [variable, stride], ...]");
  isa::Index result;
  result.base = parts[0].get<std::int64_t>();
  for (std::size_t i = 1; i < parts.size(); ++i) {
    result.terms.push_back({parts[i][0].get<std::string>(), parts[i][1].get<std::int64_t>()});
  }
  return result;
}

/// 0 where there is none.
isa::Index index_or_zero(ObjectReader& line, const char* key) {
  return line.has(key) ? index(line, key) : isa::Index{};
}

std::optional<isa::Index> optional_index(ObjectReader& line, const char* key) {
  if (!line.has(key)) return std::nullopt;
  return index(line, key);
}

/// None where all rows are meant.
std::optional<isa::Rows> optional_rows(ObjectReader& line) {
  if (!line.has("row")) return std::nullopt;
  isa::Rows rows{index(line, "row"), 1};
  if (line.has("rows")) rows.count = line.integer("rows", 1, kMaxCount);
  return rows;
}

isa::Configure read_configure(ObjectReader& line) {
  isa::Configure i;
  i.layer = count(line, "layer");
  i.node = line.text("node");
  i.name = line.text("name");
  i.weight_bits = static_cast<int>(line.integer("weight_bits", 1, 8));
  i.act_bits = static_cast<int>(line.integer("act_bits", 1, 8));
  i.act_signed = line.boolean("act_signed");
  i.outputs = line.integer("outputs", 1, kMaxCount);
  i.inputs = line.integer("inputs", 1, kMaxCount);
  i.invocations = line.integer("invocations", 1, kMaxCount);
  i.repeats = line.integer("repeats", 1, kMaxCount);
  i.slices = line.integer("slices", 1, 8);
  i.digits = line.integer("digits", 1, 8);
  i.row_tiles = line.integer("row_tiles", 1, kMaxTiles);
  i.column_tiles = line.integer("column_tiles", 1, kMaxTiles);
  return i;
}

isa::Write read_write(ObjectReader& line) {
  isa::Write i;
  i.layer = count(line, "layer");
  i.tile = index(line, "tile");
  i.crossbar = index(line, "crossbar");
  if (line.has("rows") || line.has("columns")) {
    i.region.emplace();
    std::tie(i.region->row_begin, i.region->row_end) = range(line, "rows");
    std::tie(i.region->column_begin, i.region->column_end) = range(line, "columns");
  }
  i.weight = line.text("weight");
  i.repeat = index_or_zero(line, "repeat");
  return i;
}

isa::Mvm read_mvm(ObjectReader& line) {
  isa::Mvm i;
  i.layer = count(line, "layer");
  i.tile = index(line, "tile");
  i.crossbar = index(line, "crossbar");
  i.src = line.text("src");
  i.acc = line.text("acc");
  i.at = index_or_zero(line, "at");
  i.repeat = index_or_zero(line, "repeat");
  i.lane = index_or_zero(line, "lane");
  std::tie(i.digit_begin, i.digit_end) = range(line, "digits");
  return i;
}

isa::Instruction read_instruction(ObjectReader& line, const std::string& op) {
  if (op == "CFG") return read_configure(line);
  if (op == "QUANT") {
    isa::Quantize i{count(line, "layer"), line.text("src"), line.text("dst"), line.text("scale")};
    i.lo = line.integer("lo", -128, 0);
    i.hi = line.integer("hi", 0, 255);
    if (line.has("zero")) i.zero = line.integer("zero", -255, 0);
    if (line.has("operand")) i.operand = line.boolean("operand");
    i.rows = optional_rows(line);
    return i;
  }
  if (op == "LOOP") {
    isa::Loop i{line.text("var", kMaxVariable), line.integer("count", 1, kMaxCount)};
    if (line.has("samples")) i.samples = line.boolean("samples");
    return i;
  }
  if (op == "END") return isa::End{};
  if (op == "READY") return isa::Ready{};
  if (op == "WRITE") return read_write(line);
  if (op == "IM2COL") {
    return isa::Gather{
        count(line, "layer"),          line.text("src"),           line.text("dst"), index_or_zero(line, "at"),
        index_or_zero(line, "repeat"), index_or_zero(line, "lane")};
  }
  if (op == "MVM") return read_mvm(line);
  if (op == "SHADD") {
    return isa::ShiftAdd{count(line, "layer"),
                         line.text("acc"),
                         line.text("dst"),
                         optional_index(line, "at"),
                         optional_index(line, "repeat"),
                         line.integers("shifts", 0, 64)};
  }
  if (op == "REQ") {
    isa::Requantize i{count(line, "layer"), line.text("src"), line.text("dst"), line.text("multiplier"), "", 0, ""};
    if (line.has("bias")) i.bias = line.text("bias");
    if (line.has("zero")) {
      i.zero = line.integer("zero", -255, -1);
      i.weight = line.text("weight");
    }
    i.rows = optional_rows(line);
    return i;
  }
  if (op == "VEC") {
    return isa::Vector{line.text("fn"), line.texts("src", kMaxInputs), line.text("dst"), optional_rows(line)};
  }
  throw Error(message(line.where(), ": unknown op '", shown(op), "'"));
}

void read_header(ObjectReader& line, Program& program) {
  check(line.text("op") == "PROGRAM", line.where(), ": the first line must be PROGRAM");
  check(line.text("isa") == kIsaName, line.where(), ": isa must be '", kIsaName, "'");
  check(line.text("version").starts_with(message(kMajor, ".")), line.where(), ": this build reads version ", kMajor,
        ".x of the instruction set");
  program.input = line.text("input");
  program.output = line.text("output");
  program.counts.writes = line.integer("writes", 0, INT64_MAX);
  program.counts.mvms = line.integer("mvms", 0, INT64_MAX);
  if (line.has("setup_writes")) program.counts.setup_writes = line.integer("setup_writes", 0, INT64_MAX);
  if (line.has("batch")) program.batch = line.integer("batch", 1, kMaxBatch);
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
