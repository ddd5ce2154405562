// What a bundle may ask of the machine: memory that its network keeps, and operations of one sample. Everything is
// counted from shapes, before it is taken: a file of a few kilobytes can ask for all the memory and years of work.
#pragma once

#include <cstdint>
#include <string>

#include "common/hardware.h"
#include "compiler/ir/graph.h"

namespace cimq::runtime {

class Budget {
 public:
  /// @param bytes       of weights and programmed cells, and likewise of the working memory of a run
  /// @param operations  of one sample
  Budget(std::uint64_t bytes, std::uint64_t operations) : max_bytes_(bytes), max_operations_(operations) {}

  /// Counts memory that `node` is about to take and keep. Throws Error beyond the bound.
  void keep(const compiler::Node& node, std::uint64_t bytes);
  /// Counts operations that `node` needs for one sample. Throws Error beyond the bound.
  void operate(const compiler::Node& node, std::uint64_t operations);
  /// Refuses `times` runs of the whole network (`what` asks for them) beyond the bound of operations.
  void check_runs(std::uint64_t times, const std::string& what) const;
  /// Refuses a run that takes this much memory at once, most of it at `node`.
  void check_working(const compiler::Node& node, std::uint64_t bytes) const;
  /// Refuses to keep the values of several samples at the same time, `bytes` each; one sample's are checked by node.
  void check_samples(std::uint64_t samples, std::uint64_t bytes) const;

  std::uint64_t max_bytes() const { return max_bytes_; }
  std::uint64_t kept_bytes() const { return kept_bytes_; }
  std::uint64_t operations() const { return operations_; }

 private:
  std::uint64_t max_bytes_, max_operations_;
  std::uint64_t kept_bytes_ = 0;
  std::uint64_t operations_ = 0;
};

/// Operations of one sample, from shapes alone: for a layer a multiply-add per product; for any other node the values
/// that it reads, and one for every result and element of its window.
std::uint64_t operations_of(const compiler::Graph& graph, const compiler::Node& node);

}  // namespace cimq::runtime
