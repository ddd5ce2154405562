#include "compiler/isa/program.h"

#include <algorithm>
#include <array>

#include "common/error.h"

namespace cimq::compiler {
namespace {

/// 0, or a loop variable: what version 1.1 has.
bool is_old(const isa::Index& index) {
  return index == isa::Index{} || (index.base == 0 && index.terms.size() == 1 && index.terms[0].stride == 1);
}

/// The minor version that an instruction needs.
struct MinorVersion {
  template <typename Instruction>
  int operator()(const Instruction&) const {
    return 1;
  }
  int operator()(const isa::Loop& i) const { return i.samples ? 5 : 1; }
  int operator()(const isa::Ready&) const { return 2; }
  int operator()(const isa::Quantize& i) const { return i.operand ? 4 : i.rows ? 3 : 1; }
  int operator()(const isa::Requantize& i) const { return i.bias.empty() ? 4 : i.rows ? 3 : 1; }
  int operator()(const isa::Vector& i) const { return i.rows ? 3 : 1; }
  int operator()(const isa::Write& i) const {
    return !i.region || !i.tile.constant() || !i.crossbar.constant() || !is_old(i.repeat) ? 2 : 1;
  }
  int operator()(const isa::Gather& i) const {
    if (i.lane != isa::Index{}) return 3;
    return !is_old(i.at) || !is_old(i.repeat) ? 2 : 1;
  }
  int operator()(const isa::Mvm& i) const {
    if (i.lane != isa::Index{}) return 3;
    return !i.tile.constant() || !i.crossbar.constant() || !is_old(i.at) || !is_old(i.repeat) ? 2 : 1;
  }
  int operator()(const isa::ShiftAdd& i) const { return i.at || (i.repeat && !is_old(*i.repeat)) ? 2 : 1; }
};

constexpr std::array<std::string_view, 6> kVersions = {"", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"};

}  // namespace

std::string_view version_of(const Program& program) {
  int minor = program.batch > 1 ? 5 : 1;
  for (const isa::Instruction& i : program.code) minor = std::max(minor, std::visit(MinorVersion{}, i));
  return kVersions[static_cast<std::size_t>(minor)];
}

std::ostream& operator<<(std::ostream& out, const ProgramLine& line) {
  return out << "program.jsonl: line " << line.instruction + 2;  // the header is line 1
}

std::vector<std::size_t> loop_ends(const Program& program) {
  std::vector<std::size_t> ends(program.code.size());
  std::vector<std::size_t> open;
  for (std::size_t at = 0; at < program.code.size(); ++at) {
    if (std::holds_alternative<isa::Loop>(program.code[at])) open.push_back(at);
    if (!std::holds_alternative<isa::End>(program.code[at])) continue;
    check(!open.empty(), line_of(at), ": END without LOOP");
    ends[open.back()] = at;
    open.pop_back();
  }
  check(open.empty(), line_of(open.empty() ? 0 : open.back()), ": the loop has no END");
  return ends;
}

}  // namespace cimq::compiler
