// Programs of random networks by every pipeline, changes of their text, and what must hold of both.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/ir/tiling.h"
#include "compiler/passes/check.h"
#include "compiler/passes/duplicate.h"
#include "compiler/passes/lower.h"
#include "compiler/passes/pipeline.h"
#include "compiler/passes/place.h"
#include "compiler/passes/schedule.h"
#include "compiler/passes/tile.h"
#include "compiler/sim/simulate.h"
#include "compiler/verify/program.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"
#include "runtime/random_net.h"

namespace cimq::test {

inline bool same(const runtime::RunResult& a, const runtime::RunResult& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return x.name == y.name && x.shape == y.shape && x.exact == y.exact && x.integers == y.integers &&
           x.floats == y.floats;
  };
  return a.output.shape == b.output.shape && a.output.data == b.output.data &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(), equal);
}

/// Layers overlap by rows, whether that is faster or not.
inline constexpr std::string_view kRows = "rows";

inline compiler::Module compiled(const RandomNet& net, const Hardware& hardware, const char* pipeline,
                                 const compiler::Duplication& duplication = compiler::CopyRule::kNone,
                                 std::int64_t batch = 1) {
  using namespace compiler;
  Context context;
  context.duplication = duplication;
  context.batch = batch;
  const Pipeline rows = {tile_pass(),     duplicate_pass(),     place_stationary_pass(),
                         schedule_pass(), lower_in_rows_pass(), verify_pass()};
  return compile_graph(read_layers(net.layers.dump()), hardware,
                       std::string_view(pipeline) == kRows ? rows : pipeline_named(pipeline), context);
}

/// A rule, or copies of some layers as the machine has room for.
inline compiler::Duplication random_copies(const RandomNet& net, const Hardware& hardware, Draw& draw) {
  using namespace compiler;
  if (draw.one_in(4)) return static_cast<CopyRule>(draw.between(1, 4));
  std::map<std::string, std::int64_t> copies;
  for (const Node& node : read_layers(net.layers.dump()).nodes) {
    if (!node.crossbar || draw.one_in(4)) continue;
    const std::int64_t tiles = tile_layer(hardware, *node.crossbar).tiles();
    const std::int64_t room = std::max<std::int64_t>(1, hardware.resources.crossbars.value_or(1000) / tiles);
    copies[node.crossbar->layer_name] = draw.between(1, static_cast<int>(std::min(room, node.crossbar->invocations)));
  }
  return copies;
}

/// Pipelines, and copies with them.
inline std::vector<std::pair<const char*, compiler::Duplication>> ways(const compiler::Duplication& copies) {
  using compiler::CopyRule;
  return {{"closed_form", CopyRule::kNone}, {"stationary", CopyRule::kNone}, {"stationary", copies},
          {kRows.data(), CopyRule::kNone},  {kRows.data(), copies},          {"pipelined", CopyRule::kAny}};
}

/// One change of a program's text: a line less, twice or elsewhere, or another number in it.
inline std::string changed(const std::string& text, Draw& draw) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  const int last = static_cast<int>(lines.size()) - 1;
  const auto at = static_cast<std::size_t>(draw.between(1, last));
  const auto place = [&](std::size_t i) { return lines.begin() + static_cast<std::ptrdiff_t>(i); };
  switch (draw.between(0, 5)) {
    case 0:
      lines.erase(place(at));
      break;
    case 1:
      lines.insert(place(static_cast<std::size_t>(draw.between(1, last))), lines[at]);
      break;
    case 2:
      std::swap(lines[at], lines[static_cast<std::size_t>(draw.between(1, last))]);
      break;
    default: {
      std::string& line = lines[at];
      std::vector<std::size_t> digits;
      for (std::size_t i = 0; i < line.size(); ++i) {
        if (line[i] >= '0' && line[i] <= '9' && (line[i - 1] == ':' || line[i - 1] == '[' || line[i - 1] == ',')) {
          digits.push_back(i);
        }
      }
      if (!digits.empty()) {
        line[digits[static_cast<std::size_t>(draw.between(0, static_cast<int>(digits.size()) - 1))]] =
            static_cast<char>('0' + draw.between(0, 3));
      }
    }
  }
  std::string result;
  for (const std::string& line : lines) result += line + "\n";
  return result;
}

inline compiler::SimulatedTime timed(const compiler::Module& module) {
  return compiler::simulate(*module.program, module.graph);
}

/// A program is the same after it was written and read, is verified, and computes `wanted` of `x` with the bundle in
/// `folder`. Returns what was read.
inline compiler::Program check_program(const compiler::Module& module, const std::filesystem::path& folder,
                                       const runtime::Tensor& x, const runtime::RunResult& wanted) {
  const std::string text = compiler::write_program(*module.program);
  INFO(text);
  compiler::Program read = compiler::read_program(text);
  CHECK(compiler::write_program(read) == text);
  CHECK(compiler::verify_program(read, module.graph) == read.counts);
  CHECK(same(runtime::Interpreter::load(folder, read).run_layers(x), wanted));
  return read;
}

/// A program that somebody has changed, sixty times anew, is refused, or computes the same.
inline void check_changed(const compiler::Module& module, const std::filesystem::path& folder, const runtime::Tensor& x,
                          const runtime::RunResult& wanted, Draw& draw) {
  const std::string text = compiler::write_program(*module.program);
  for (int i = 0; i < 60; ++i) {
    const std::string other = changed(text, draw);
    INFO("change " << i << "\n" << other);
    std::optional<compiler::Program> accepted;
    try {
      accepted = compiler::read_program(other);
      compiler::verify_program(*accepted, module.graph);
    } catch (const Error& error) {
      CHECK_THAT(error.what(), Catch::Matchers::Contains("program.jsonl") || Catch::Matchers::Contains("hardware"));
      accepted.reset();
    }
    if (accepted) CHECK(same(runtime::Interpreter::load(folder, *accepted).run_layers(x), wanted));
  }
}

}  // namespace cimq::test
