// The network of a bundle: its files, read and compared with one another.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"
#include "runtime/bundle_files.h"
#include "runtime/load_options.h"
#include "runtime/tensor.h"

namespace cimq::runtime {

inline constexpr const char* kExpected = "expected.safetensors";
inline constexpr const char* kWeights = "weights.safetensors";

struct Network {
  std::map<std::string, std::string> texts;  ///< of the JSON files
  compiler::Graph graph;                     ///< with the seed and chip that the options ask for
  Hardware hardware;
  std::optional<compiler::Program> program;  ///< verified
};

/// Throws Error naming the file where layers, policy, hardware and program (if there is one) do not agree.
Network read_network(const BundleFiles& bundle, const LoadOptions& options);

/// Throws Error unless x is [batch, ...input_shape] and finite.
void check_input(const compiler::Graph& graph, const Tensor& x);

/// [batch, ...shape].
compiler::Shape batched(std::int64_t batch, compiler::Shape shape);

}  // namespace cimq::runtime
