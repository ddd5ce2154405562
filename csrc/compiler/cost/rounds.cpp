#include "compiler/cost/rounds.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <vector>

#include "common/saturating.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;

class Rounds {
 public:
  explicit Rounds(const PoolMachine& machine)
      : machine_(machine), free_(static_cast<std::size_t>(machine.pool)), unused_ports_(machine.parallel_writes) {}

  void run(const LayerLoad& load, std::int64_t resident) {
    if (load.groups == 1) {
      run_single(load, resident);
      return;
    }
    const std::int64_t staying = resident / load.tiles;
    for (std::int64_t g = 0; g < staying; ++g) multiply(load, 0, 0);
    const std::int64_t at_once = machine_.pool / load.tiles;
    for (std::int64_t g = staying; g < load.groups && at_once > 0; g += at_once) {
      const std::int64_t groups = std::min(at_once, load.groups - g);
      write(groups * load.tiles);
      for (std::int64_t i = 0; i < groups; ++i) multiply(load, i * load.tiles, load.tiles);
    }
    for (std::int64_t g = staying; g < load.groups && at_once == 0; ++g) {
      for (std::int64_t t = 0; t < load.tiles; t += machine_.pool) {
        pass(load, std::min(machine_.pool, load.tiles - t));
      }
    }
  }

  Time now() const { return now_; }

 private:
  void run_single(const LayerLoad& load, std::int64_t resident) {
    const std::int64_t rest = load.tiles - resident;
    if (rest == 0) multiply(load, 0, 0);
    for (std::int64_t t = 0; t < rest; t += machine_.pool) pass(load, std::min(machine_.pool, rest - t));
  }

  void pass(const LayerLoad& load, std::int64_t tiles) {
    write(tiles);
    multiply(load, 0, tiles);
  }

  /// Writes the first crossbars of the pool.
  void write(std::int64_t tiles) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(tiles); ++c) {
      Time begin = free_[c];
      if (machine_.parallel_writes > 0) {
        if (unused_ports_ > 0) {
          --unused_ports_;
        } else {
          begin = std::max(begin, ports_.top());
          ports_.pop();
        }
      }
      free_[c] = saturating_sum(begin, static_cast<Time>(machine_.write_time_ps));
      if (machine_.parallel_writes > 0) ports_.push(free_[c]);
    }
  }

  /// All vectors of a group on the crossbars [first, first + tiles) of the pool, and on what stays.
  void multiply(const LayerLoad& load, std::int64_t first, std::int64_t tiles) {
    const auto begin = free_.begin() + first;
    const Time before = now_;
    for (auto c = begin; c != begin + tiles; ++c) now_ = std::max(now_, *c);
    now_ = saturating_sum(now_, saturating_product(static_cast<Time>(load.vectors), load.vector_time_ps));
    for (auto c = begin; c != begin + tiles; ++c) {
      // The only vector may leave one crossbar before another has it.
      *c = load.vectors > 1 ? now_ : saturating_sum(std::max(before, *c), static_cast<Time>(load.vector_time_ps));
    }
  }

  const PoolMachine& machine_;
  std::vector<Time> free_;  // crossbars of the pool
  std::int64_t unused_ports_;
  std::priority_queue<Time, std::vector<Time>, std::greater<>> ports_;
  Time now_ = 0;
};

}  // namespace

std::uint64_t time_in_rounds(const PoolMachine& machine, std::span<const LayerLoad> loads,
                             std::span<const std::int64_t> resident) {
  Rounds rounds(machine);
  for (std::size_t i = 0; i < loads.size(); ++i) rounds.run(loads[i], resident[i]);
  return rounds.now();
}

}  // namespace cimq::compiler
