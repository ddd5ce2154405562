// Executes a bundle on the CPU: the same integers as the trained model, without Python or PyTorch.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/hardware.h"
#include "compiler/ir/graph.h"
#include "runtime/bundle_files.h"
#include "runtime/load_options.h"
#include "runtime/tensor.h"

namespace cimq::runtime {

struct RunResult {
  Tensor output;
  std::vector<LayerOutput> layers;  ///< one per crossbar layer, in order of execution
};

/// Comparison of one stored result with the one computed here.
struct CheckEntry {
  std::string name;  ///< layer name, or "output"
  std::int64_t compared = 0;
  std::int64_t different = 0;
  std::string first_difference;  ///< empty if none
};

struct CheckReport {
  std::vector<CheckEntry> entries;
  /// Whether every value is equal, and there is at least one to every name.
  bool passed() const;
};

/// A loaded bundle. Immutable: one object may be run from several threads.
class Executor {
 public:
  /// Loads a bundle folder after verifying every file of it; layers, policy, hardware and program (if there is one)
  /// must agree. Throws Error naming file and entry.
  static Executor load(const std::filesystem::path& folder, const LoadOptions& options = {});
  /// The same from files that somebody else holds and has verified: sizes and hashes of the manifest are not compared.
  static Executor load(const BundleFiles& bundle, const LoadOptions& options = {});

  /// x: [B, ...input_shape], finite. Throws Error for another shape, for NaN or infinity.
  Tensor run(const Tensor& x) const;
  /// The same, with the raw result of every crossbar layer.
  RunResult run_layers(const Tensor& x) const;
  /// Runs the bundle's sample input and compares every layer and the output with expected.safetensors: equal values,
  /// no tolerance. Samples are run in parts and a layer is compared when it is computed, so that the sample's size does
  /// not matter to memory. Throws Error if the bundle has no such file or no sample in it, if a name or shape in it
  /// does not fit the network, or if the bundle was loaded with another seed or chip.
  CheckReport check() const;

  const compiler::Graph& graph() const;
  const Hardware& hardware() const;
  /// Text of a JSON file of the bundle, as verified ("manifest.json", "policy.json", "hardware.json", "layers.json").
  const std::string& text_of(const std::string& file) const;
  int threads() const;

 private:
  struct State;
  explicit Executor(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace cimq::runtime

namespace cimq {
using runtime::Executor;
}  // namespace cimq
