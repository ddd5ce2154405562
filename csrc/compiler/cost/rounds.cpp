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
    not_before_ = load.passes ? now_ : 0;
    lanes_.assign(static_cast<std::size_t>(load.copies), now_);
    if (load.groups == 1) {
      run_single(load, resident);
    } else {
      run_groups(load, resident);
    }
    now_ = std::ranges::max(lanes_);
  }

  Time now() const { return now_; }

 private:
  void run_single(const LayerLoad& load, std::int64_t resident) {
    const std::int64_t rest = load.all() - resident;
    if (rest == 0) multiply(load, 0, 0);
    for (std::int64_t t = 0; t < rest; t += machine_.pool) pass(load, std::min(machine_.pool, rest - t));
  }

  void run_groups(const LayerLoad& load, std::int64_t resident) {
    const std::int64_t each = load.tiles * load.copies;
    const std::int64_t staying = resident / each;
    for (std::int64_t g = 0; g < staying; ++g) multiply(load, 0, 0);
    const std::int64_t at_once = machine_.pool / each;
    for (std::int64_t g = staying; g < load.groups && at_once > 0; g += at_once) {
      const std::int64_t groups = std::min(at_once, load.groups - g);
      write(groups * each);
      for (std::int64_t i = 0; i < groups; ++i) multiply(load, i * each, load.tiles);
    }
    for (std::int64_t g = staying; g < load.groups && at_once == 0; ++g) {
      for (std::int64_t t = 0; t < load.tiles; t += machine_.pool) {
        pass(load, std::min(machine_.pool, load.tiles - t));
      }
    }
  }

  /// Tiles of the only copy, or all copies of all tiles.
  void pass(const LayerLoad& load, std::int64_t crossbars) {
    write(crossbars);
    multiply(load, 0, crossbars / load.copies);
  }

  /// Writes the first crossbars of the pool.
  void write(std::int64_t tiles) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(tiles); ++c) {
      Time begin = std::max(free_[c], not_before_);
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

  /// All vectors of a group, shared out among the copies: each has `tiles` crossbars of the pool, from `first` on, and
  /// what stays.
  void multiply(const LayerLoad& load, std::int64_t first, std::int64_t tiles) {
    auto begin = free_.begin() + first;
    for (std::int64_t copy = 0; copy < load.copies; ++copy, begin += tiles) {
      const std::int64_t vectors = (load.vectors - copy + load.copies - 1) / load.copies;
      Time& now = lanes_[static_cast<std::size_t>(copy)];
      const Time before = now;
      for (auto c = begin; c != begin + tiles; ++c) now = std::max(now, *c);
      now = saturating_sum(now, saturating_product(static_cast<Time>(vectors), load.vector_time_ps));
      for (auto c = begin; c != begin + tiles; ++c) {
        // The only vector may leave one crossbar before another has it.
        *c = vectors > 1 ? now : saturating_sum(std::max(before, *c), static_cast<Time>(load.vector_time_ps));
      }
    }
  }

  const PoolMachine& machine_;
  std::vector<Time> free_;   // crossbars of the pool
  std::vector<Time> lanes_;  // of the present layer: the vector before has been shown to the copy
  std::int64_t unused_ports_;
  std::priority_queue<Time, std::vector<Time>, std::greater<>> ports_;
  Time now_ = 0;
  Time not_before_ = 0;  // of writes of the present layer
};

}  // namespace

std::uint64_t time_in_rounds(const PoolMachine& machine, std::span<const LayerLoad> loads,
                             std::span<const std::int64_t> resident) {
  Rounds rounds(machine);
  for (std::size_t i = 0; i < loads.size(); ++i) rounds.run(loads[i], resident[i]);
  return rounds.now();
}

}  // namespace cimq::compiler
