// Random networks on random machines, by every pipeline: programs that are accepted compute what the executor computes,
// also when somebody has changed them.
#include <algorithm>
#include <catch2/catch.hpp>
#include <sstream>

#include "common/error.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/frontends/program_jsonl.h"
#include "compiler/passes/pipeline.h"
#include "compiler/verify/program.h"
#include "runtime/executor.h"
#include "runtime/interpreter/interpreter.h"
#include "runtime/random_net.h"

using namespace cimq::compiler;
using namespace cimq::test;
using Catch::Matchers::Contains;
using cimq::Executor;
using cimq::Hardware;
using cimq::runtime::Interpreter;
using cimq::runtime::RunResult;

namespace {

bool same(const RunResult& a, const RunResult& b) {
  const auto equal = [](const auto& x, const auto& y) {
    return x.name == y.name && x.shape == y.shape && x.exact == y.exact && x.integers == y.integers &&
           x.floats == y.floats;
  };
  return a.output.shape == b.output.shape && a.output.data == b.output.data &&
         std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(), equal);
}

Module compiled(const RandomNet& net, const Hardware& hardware, const char* pipeline) {
  Context context;
  return compile_graph(read_layers(net.layers.dump()), hardware, pipeline_named(pipeline), context);
}

/// One change of a program's text: a line less, twice or elsewhere, or another number in it.
std::string changed(const std::string& text, Draw& draw) {
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

}  // namespace

TEST_CASE("Every pipeline's program computes what the executor computes", "[programs]") {
  const unsigned seed = GENERATE(range(0U, 200U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  INFO("seed " << seed << " " << hardware.to_json() << "\n" << net.layers.dump());
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const Module module = compiled(net, hardware, pipeline);
    const std::string text = write_program(*module.program);
    INFO(text);
    const Program read = read_program(text);
    CHECK(write_program(read) == text);
    CHECK(verify_program(read, module.graph) == read.counts);
    CHECK(same(Interpreter::load(folder.path(), read).run_layers(x), wanted));
  }
}

TEST_CASE("A changed program is refused, or computes the same", "[programs]") {
  const unsigned seed = GENERATE(range(1000U, 1040U));
  Draw draw(seed);
  const Hardware hardware = random_machine(draw);
  const RandomNet net(draw, hardware);
  const TemporaryFolder folder;
  write_bundle(folder.path(), net.files);
  const auto x = net.sample(2);
  const RunResult wanted = Executor::load(folder.path()).run_layers(x);
  for (const char* pipeline : {"closed_form", "stationary"}) {
    const std::string text = write_program(*compiled(net, hardware, pipeline).program);
    const auto graph = read_layers(net.layers.dump());
    for (int i = 0; i < 60; ++i) {
      const std::string other = changed(text, draw);
      INFO("seed " << seed << ", change " << i << "\n" << other);
      std::optional<Program> accepted;
      try {
        accepted = read_program(other);
        verify_program(*accepted, graph);
      } catch (const cimq::Error& error) {
        CHECK_THAT(error.what(), Contains("program.jsonl") || Contains("hardware"));
        accepted.reset();
      }
      if (accepted) CHECK(same(Interpreter::load(folder.path(), *accepted).run_layers(x), wanted));
    }
  }
}
