#include "compiler/verify/loops.h"

#include <algorithm>
#include <iterator>

#include "common/error.h"
#include "common/printable.h"

namespace cimq::compiler::verify {
namespace {

std::vector<const isa::Index*> first_row(const std::optional<isa::Rows>& rows) {
  if (!rows) return {};
  return {&rows->first};
}

/// Indices that must be plain numbers when an instruction is looked at.
struct Selectors {
  template <typename Instruction>
  std::vector<const isa::Index*> operator()(const Instruction&) const {
    return {};
  }
  std::vector<const isa::Index*> operator()(const isa::Write& i) const { return {&i.tile, &i.crossbar}; }
  std::vector<const isa::Index*> operator()(const isa::Quantize& i) const { return first_row(i.rows); }
  std::vector<const isa::Index*> operator()(const isa::Requantize& i) const { return first_row(i.rows); }
  std::vector<const isa::Index*> operator()(const isa::Vector& i) const { return first_row(i.rows); }
  std::vector<const isa::Index*> operator()(const isa::Gather& i) const { return {&i.lane}; }
  std::vector<const isa::Index*> operator()(const isa::Mvm& i) const { return {&i.tile, &i.crossbar, &i.lane}; }
};

}  // namespace

std::vector<bool> unrolled_loops(const Program& program, const std::vector<std::size_t>& ends) {
  std::vector<bool> unrolled(program.code.size());
  std::vector<std::size_t> open;
  for (std::size_t at = 0; at < program.code.size(); ++at) {
    if (!open.empty() && ends[open.back()] == at) open.pop_back();
    if (std::holds_alternative<isa::Loop>(program.code[at])) {
      open.push_back(at);
      check(open.size() <= kMaxDepth, line_of(at), ": loops are nested deeper than ", kMaxDepth);
    }
    for (const isa::Index* index : std::visit(Selectors{}, program.code[at])) {
      for (const isa::Term& term : index->terms) {
        for (const std::size_t loop : open) {
          if (std::get<isa::Loop>(program.code[loop]).variable == term.variable) unrolled[loop] = true;
        }
      }
    }
  }
  return unrolled;
}

void OpenLoops::open(const OpenLoop& loop, ProgramLine where) {
  check(!loop.variable.empty() && std::ranges::find(loops_, loop.variable, &OpenLoop::variable) == loops_.end(), where,
        ": the loop variable '", printable(loop.variable, 16), "' must be new");
  check(loop.count >= 1, where, ": count must be at least 1, got ", loop.count);
  check(loops_.size() < kMaxDepth, where, ": loops are nested deeper than ", kMaxDepth);
  counts_[loops_.size()] = loop.count;
  loops_.push_back(loop);
}

void OpenLoops::close() {
  loops_.pop_back();
  counts_[loops_.size()] = 0;
}

bool OpenLoops::in_samples() const { return std::ranges::any_of(loops_, &OpenLoop::samples); }

bool OpenLoops::all_walked() const {
  return std::ranges::all_of(loops_, [](const OpenLoop& loop) { return loop.unrolled || loop.samples; });
}

Affine OpenLoops::evaluate(const isa::Index& index, ProgramLine where) const {
  Affine value;
  value.base = index.base;
  std::int64_t highest = index.base;
  bool fits = index.base >= 0;
  for (const isa::Term& term : index.terms) {
    const auto loop = std::ranges::find(loops_, term.variable, &OpenLoop::variable);
    check(loop != loops_.end(), where, ": there is no loop variable '", printable(term.variable, 16), "'");
    check(!loop->samples, where, ": '", printable(term.variable, 16), "' counts samples, and no index may follow it");
    const auto depth = static_cast<std::size_t>(std::distance(loops_.begin(), loop));
    std::int64_t reach = 0;
    fits = fits && term.stride >= 0 && !__builtin_mul_overflow(term.stride, loop->count - 1, &reach) &&
           !__builtin_add_overflow(highest, reach, &highest);
    if (!fits) break;
    if (loop->unrolled) {
      value.base += term.stride * loop->value;
    } else {
      value.strides[depth] += term.stride;
    }
  }
  check(fits, where, ": an index must be from 0 to 2^63 - 1 in every iteration");
  return value;
}

}  // namespace cimq::compiler::verify
