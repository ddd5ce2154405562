#include "compiler/cost/rounds.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <span>
#include <vector>

#include "common/saturating.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;

class Rounds {
 public:
  explicit Rounds(const PoolMachine& machine)
      : machine_(machine),
        free_(static_cast<std::size_t>(machine.pool)),
        unused_ports_(machine.parallel_writes),
        ready_(static_cast<std::size_t>(machine.batch)) {}

  void run(const LayerLoad& load, std::int64_t resident) {
    lanes_.assign(static_cast<std::size_t>(load.copies), 0);
    done_ = ready_;
    if (load.passes) {
      for (begin_ = 0; begin_ < ready_.size(); ++begin_) run(load, resident, begin_ + 1, ready_[begin_]);
    } else {
      begin_ = 0;
      run(load, resident, ready_.size(), 0);
    }
    ready_.swap(done_);
  }

  Time now() const { return std::ranges::max(ready_); }

 private:
  /// Samples [begin_, end) of a layer; its writes do not begin before `not_before`.
  void run(const LayerLoad& load, std::int64_t resident, std::size_t end, Time not_before) {
    end_ = end;
    not_before_ = not_before;
    if (load.groups == 1) {
      run_single(load, resident);
    } else {
      run_groups(load, resident);
    }
  }

  void run_single(const LayerLoad& load, std::int64_t resident) {
    const std::int64_t rest = load.all() - resident;
    if (rest == 0) multiply(load, 0, 1);
    for (std::int64_t t = 0; t < rest; t += machine_.pool) pass(load, std::min(machine_.pool, rest - t));
  }

  void run_groups(const LayerLoad& load, std::int64_t resident) {
    const std::int64_t each = load.tiles * load.copies;
    const std::int64_t staying = resident / each;
    if (staying > 0) multiply(load, 0, staying);
    const std::int64_t at_once = machine_.pool / each;
    for (std::int64_t g = staying; g < load.groups && at_once > 0; g += at_once) {
      const std::int64_t groups = std::min(at_once, load.groups - g);
      write(groups * each);
      multiply(load, load.tiles, groups);
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
    multiply(load, crossbars / load.copies, 1);
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

  /// All vectors of some groups, sample by sample, shared out among the copies: each has `tiles` crossbars of the pool,
  /// those of the first group first, and what stays.
  void multiply(const LayerLoad& load, std::int64_t tiles, std::int64_t groups) {
    for (std::size_t sample = begin_; sample < end_; ++sample) {
      auto crossbars = free_.begin();
      for (std::int64_t group = 0; group < groups; ++group) {
        for (std::int64_t copy = 0; copy < load.copies; ++copy, crossbars += tiles) {
          show(load, copy, std::span(crossbars, static_cast<std::size_t>(tiles)), sample);
        }
      }
    }
  }

  /// The vectors of a sample that a copy sees.
  void show(const LayerLoad& load, std::int64_t copy, std::span<Time> crossbars, std::size_t sample) {
    const std::int64_t vectors = (load.vectors - copy + load.copies - 1) / load.copies;
    Time& now = lanes_[static_cast<std::size_t>(copy)];
    const Time before = std::max(now, ready_[sample]);
    now = before;
    // Those of a later sample come when all crossbars are done with the last vector of the one before.
    const bool is_first = sample == begin_;
    for (std::size_t c = 0; is_first && c < crossbars.size(); ++c) now = std::max(now, crossbars[c]);
    now = saturating_sum(now, saturating_product(static_cast<Time>(vectors), load.vector_time_ps));
    done_[sample] = std::max(done_[sample], now);
    if (!is_first && sample + 1 < end_) return;
    for (Time& free : crossbars) {
      // The only vector may leave one crossbar before another has it.
      const bool apart = is_first && vectors == 1;
      free = apart ? saturating_sum(std::max(before, free), static_cast<Time>(load.vector_time_ps)) : now;
    }
  }

  const PoolMachine& machine_;
  std::vector<Time> free_;   // crossbars of the pool
  std::vector<Time> lanes_;  // of the present layer: the vector before has been shown to the copy
  std::int64_t unused_ports_;
  std::priority_queue<Time, std::vector<Time>, std::greater<>> ports_;
  std::vector<Time> ready_, done_;   // by sample: through the layer before; through this one
  std::size_t begin_ = 0, end_ = 0;  // samples of the present layer that the writes serve
  Time not_before_ = 0;              // of these writes
};

}  // namespace

std::uint64_t time_in_rounds(const PoolMachine& machine, std::span<const LayerLoad> loads,
                             std::span<const std::int64_t> resident) {
  Rounds rounds(machine);
  for (std::size_t i = 0; i < loads.size(); ++i) rounds.run(loads[i], resident[i]);
  return rounds.now();
}

}  // namespace cimq::compiler
