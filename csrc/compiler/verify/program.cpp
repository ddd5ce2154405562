#include "compiler/verify/program.h"

#include <algorithm>
#include <cstdint>
#include <variant>

#include "common/error.h"
#include "compiler/verify/verifier.h"

namespace cimq::compiler {
namespace verify {

ProgramCounts Verifier::run() {
  check(program_.batch >= 1 && program_.batch <= kMaxBatch, "program.jsonl: line 1: batch must be from 1 to ",
        kMaxBatch, ", got ", program_.batch);
  check(program_.input == graph_.input_name, "program.jsonl: line 1: input must be '", graph_.input_name, "'");
  const auto is_ready = [](const isa::Instruction& i) { return std::holds_alternative<isa::Ready>(i); };
  const auto ready = std::ranges::find_if(program_.code, is_ready);
  const auto split = static_cast<std::size_t>(ready - program_.code.begin());
  const std::size_t end = program_.code.size();
  if (split == end) {
    walk(0, end, 1, true);
  } else {
    setup_ = true;
    walk(0, split, 1, true);
    setup_ = false;
    walk(split + 1, end, 1, true);
    // The next sample finds the crossbars as this one left them.
    walk(split + 1, end, 1, false);
  }
  finish();
  return counts_;
}

void Verifier::walk(std::size_t begin, std::size_t end, std::int64_t times, bool counting) {
  for (std::size_t at = begin; at < end; ++at) {
    at_ = at;
    times_ = times;
    counting_ = counting;
    spend(1);
    const isa::Instruction& instruction = program_.code[at];
    check(!setup_ || is_setup(instruction), where(), ": before READY there are only CFG, WRITE and loops");
    check(is_shared(instruction) || std::holds_alternative<isa::Ready>(instruction) || of_one_sample(), where(),
          ": the program computes ", program_.batch, " samples, this must stand in a loop over samples");
    if (const auto* loop = std::get_if<isa::Loop>(&instruction)) {
      walk_loop(at, *loop, times, counting);
      at = ends_[at];
    } else {
      std::visit([this](const auto& i) { visit(i); }, instruction);
    }
  }
}

void Verifier::walk_loop(std::size_t at, const isa::Loop& loop, std::int64_t times, bool counting) {
  if (loop.samples) return walk_samples(at, loop, times, counting);
  const std::size_t close = ends_[at];
  loops_.open({loop.variable, loop.count, unrolled_[at], 0}, where());
  if (unrolled_[at]) {
    if (counting) products_.open_loop();
    for (std::int64_t i = 0; i < loop.count; ++i) {
      loops_.set_value(i);
      walk(at + 1, close, times, counting);
    }
    if (counting) products_.close_walked_loop();
  } else {
    const std::int64_t inner = multiplied(times, loop.count);
    const std::size_t depth = loops_.depth() - 1;
    state_.open_loop();
    if (counting) products_.open_loop();
    walk(at + 1, close, inner, counting);
    if (loop.count > 1) {
      // Crossbars and registers now hold what an iteration leaves: the body must be right from there as well.
      state_.next_iteration(depth);
      walk(at + 1, close, inner, false);
    }
    state_.close_loop(depth, loop.count);
    if (counting) products_.close_loop(depth, loop.count);
  }
  loops_.close();
}

/// All samples do the same, each with values of its own: their registers hold the same at the same instruction, and
/// products are made as often. Only crossbars are common, and these hold for every later sample what they hold for the
/// second: what the body leaves there does not depend on what it found. So two samples prove it for all.
void Verifier::walk_samples(std::size_t at, const isa::Loop& loop, std::int64_t times, bool counting) {
  check(!setup_, where(), ": before READY there are no samples");
  check(!loops_.in_samples(), where(), ": a loop over samples must not stand in another");
  check(loop.count == program_.batch, where(), ": a loop over samples runs ", program_.batch,
        " times, as many as the header says, got ", loop.count);
  loops_.open({loop.variable, loop.count, false, 0, true}, where());
  const std::size_t close = ends_[at];
  const std::int64_t inner = multiplied(times, loop.count);
  const bool before = again_;
  state_.next_sample();
  walk(at + 1, close, inner, counting);
  if (loop.count > 1) {
    again_ = true;
    state_.next_sample();
    walk(at + 1, close, inner, false);
    again_ = before;
  }
  state_.next_sample();
  loops_.close();
}

void Verifier::finish() {
  values_.check_complete(graph_);
  const std::string& output = graph_.nodes[static_cast<std::size_t>(graph_.output)].name;
  check(program_.output == output, "program.jsonl: line 1: output must be '", output, "'");
  products_.check_all();
  const ProgramCounts& stated = program_.counts;
  check(counts_ == stated, "program.jsonl: line 1 states ", stated.writes, " writes, ", stated.setup_writes,
        " before READY, and ", stated.mvms, " MVMs, the program has ", counts_.writes, ", ", counts_.setup_writes,
        " and ", counts_.mvms);
}

}  // namespace verify

ProgramCounts verify_program(const Program& program, const Graph& graph) {
  return verify::Verifier(program, graph).run();
}

}  // namespace cimq::compiler
