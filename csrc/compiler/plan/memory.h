// What plans for one machine ask of single layers, again and again: of networks that differ in a few layers' bits, and
// of layers that are alike.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "compiler/cost/rounds.h"
#include "compiler/plan/options.h"

namespace cimq::compiler {

/// Options of a layer, and those of them on their lower hull.
struct KeptOptions {
  LayerOptions all, hull;
};

class PlanMemory {
 public:
  /// Of this machine with a pool of any size.
  explicit PlanMemory(const PoolMachine& machine) : machine_(machine) {}

  const PoolMachine& machine() const { return machine_; }

  /// options_of a load with any copies. What is returned stays until `tidy`.
  const KeptOptions& options(const LayerLoad& load, std::int64_t pool, std::int64_t most,
                             const std::optional<std::int64_t>& copies);
  /// options_in_rows.
  const LayerOptions& in_rows(const LayerLoad& load, const LayerRows& rows, std::int64_t most);
  /// time_in_rounds of a layer by itself.
  std::uint64_t alone(const LayerLoad& load, std::int64_t pool, std::int64_t resident);

  /// Forgets everything if it is much. Between two plans.
  void tidy();

 private:
  struct Question {
    LayerLoad load;
    std::int64_t a = 0, b = 0, c = 0;
    friend bool operator==(const Question&, const Question&) = default;
  };
  struct Hash {
    std::size_t operator()(const Question& question) const;
  };

  PoolMachine machine_;
  std::unordered_map<Question, KeptOptions, Hash> options_;
  std::unordered_map<Question, LayerOptions, Hash> in_rows_;
  std::unordered_map<Question, std::uint64_t, Hash> alone_;
  std::size_t size_ = 0;  // options that are kept
};

}  // namespace cimq::compiler
