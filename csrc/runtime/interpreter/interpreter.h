// Runs a program instruction by instruction: cells are written, digits applied, columns converted, codes added up, all
// as program.jsonl says (docs/isa.md). Slow, and the proof that the program is what the executor computes: its integers
// are the executor's.
#pragma once

#include <filesystem>
#include <memory>

#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"
#include "runtime/executor.h"
#include "runtime/load_options.h"
#include "runtime/safetensors.h"

namespace cimq::runtime {

/// A program and the tensors that it works on. Immutable: one object may be run from several threads.
class Interpreter {
 public:
  /// Verifies `program` against `graph`. Throws Error where it does not fit, where a tensor is missing, and for a
  /// machine on which something that is converted at once lies in two tiles.
  Interpreter(compiler::Graph graph, compiler::Program program, const Safetensors& weights,
              const LoadOptions& options = {});

  /// The bundle's own program. Throws Error as Executor::load does, and if the bundle has none.
  static Interpreter load(const std::filesystem::path& folder, const LoadOptions& options = {});
  /// Another program of the bundle's network; its machine takes the place of the bundle's.
  static Interpreter load(const std::filesystem::path& folder, compiler::Program program,
                          const LoadOptions& options = {});

  /// x: [B, ...input_shape], finite. As Executor::run_layers, on one thread. Samples go through the program in batches
  /// of its own size, the last of which may be smaller. Throws Error where a batch needs more working memory than
  /// allowed.
  RunResult run_layers(const Tensor& x) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace cimq::runtime
