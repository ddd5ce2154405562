#include "compiler/plan/options.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/rounding.h"
#include "common/saturating.h"

namespace cimq::compiler {
namespace {

using Time = std::uint64_t;

/// All input vectors of a group, shared out, of so many samples.
Time multiplying(const LayerLoad& load, std::int64_t copies, std::int64_t batch = 1) {
  return saturating_product(static_cast<Time>(ceil_div(load.vectors, copies)), load.vector_time_ps, batch);
}

Time writing(const PoolMachine& machine, std::int64_t crossbars) {
  const std::int64_t turns = machine.parallel_writes > 0 ? ceil_div(crossbars, machine.parallel_writes) : 1;
  return saturating_product(static_cast<Time>(turns), machine.write_time_ps);
}

/// `groups` groups on their way through the pool; kUncountable where copies do not fit.
Time passing(const LayerLoad& load, const PoolMachine& machine, std::int64_t groups, std::int64_t copies) {
  const std::int64_t each = load.tiles * copies;
  if (each > machine.pool) {
    if (copies > 1 || machine.pool == 0) return kUncountable;
    const std::int64_t rounds = ceil_div(load.tiles, machine.pool);
    return saturating_product(saturating_sum(writing(machine, machine.pool), multiplying(load, 1, machine.batch)),
                              rounds, groups);
  }
  const std::int64_t at_once = std::min(groups, machine.pool / each);
  return saturating_sum(saturating_product(writing(machine, at_once * each), ceil_div(groups, at_once)),
                        saturating_product(multiplying(load, copies, machine.batch), groups));
}

/// The same of a layer that is written for each sample.
Time passing_each(const LayerLoad& load, PoolMachine machine, std::int64_t copies) {
  const std::int64_t batch = machine.batch;
  machine.batch = 1;
  return saturating_product(passing(load, machine, load.groups, copies), batch);
}

/// Parts of a layer that stay, without copies, the rest passes.
void add_partial(LayerOptions& options, const LayerLoad& load, const PoolMachine& machine) {
  if (machine.pool == 0) return;
  if (load.groups == 1) {
    // So many tiles that a round is saved.
    for (std::int64_t passes = load.tiles - machine.pool; passes > 0; passes -= machine.pool) {
      const std::int64_t stays = passes;
      LayerLoad rest = load;
      rest.tiles = load.tiles - stays;
      options.push_back({stays, passing(rest, machine, 1, 1), 1});
    }
    return;
  }
  for (std::int64_t stays = 1; stays < load.groups; ++stays) {
    const Time time = saturating_sum(saturating_product(multiplying(load, 1, machine.batch), stays),
                                     passing(load, machine, load.groups - stays, 1));
    options.push_back({stays * load.tiles, time, 1});
  }
}

/// Keeps what is faster than everything that takes no more crossbars.
LayerOptions front_of(LayerOptions options, std::int64_t most) {
  std::ranges::sort(options, {}, [](const LayerOption& o) { return std::tuple(o.crossbars, o.time_ps, o.copies); });
  LayerOptions front;
  for (const LayerOption& option : options) {
    if (option.crossbars > most || option.time_ps == kUncountable) continue;
    if (front.empty() || option.time_ps < front.back().time_ps) front.push_back(option);
  }
  return front;
}

/// Turns of showing vectors to copies, where so many rows are one set.
std::int64_t turns(const LayerRows& layer, std::int64_t at_once, std::int64_t copies) {
  return ceil_div(layer.rows, at_once) * ceil_div(at_once * layer.vectors, copies);
}

}  // namespace

std::int64_t rows_at_once(const LayerRows& layer, std::int64_t copies) {
  constexpr std::int64_t kFew = 4;
  constexpr std::int64_t kSlack = 16;  // part of the time that may be lost to idle copies
  const std::int64_t most = std::min(layer.rows, std::max(kFew, 2 * ceil_div(copies, layer.vectors)));
  std::int64_t best = turns(layer, 1, copies);
  for (std::int64_t at_once = 2; at_once <= most; ++at_once) best = std::min(best, turns(layer, at_once, copies));
  std::int64_t at_once = 1;
  while (turns(layer, at_once, copies) > best + best / kSlack) ++at_once;
  return at_once;
}

LayerOptions options_in_rows(const LayerLoad& load, const LayerRows& rows, std::int64_t most) {
  if (load.passes) return front_of({{load.all(), multiplying(load, 1), 1}}, most);
  std::vector<std::int64_t> numbers = useful_copies(load.vectors, most / load.all());
  for (const std::int64_t number : useful_copies(rows.vectors, most / load.all())) numbers.push_back(number);
  for (std::int64_t n = 1; n <= rows.rows && n * rows.vectors <= most / load.all(); ++n) {
    numbers.push_back(n * rows.vectors);
  }
  LayerOptions options;
  for (const std::int64_t number : numbers) {
    const auto all = static_cast<Time>(turns(rows, rows_at_once(rows, number), number));
    options.push_back({load.all() * number, saturating_product(all, load.vector_time_ps, load.groups), number});
  }
  return front_of(std::move(options), most);
}

std::vector<std::int64_t> useful_copies(std::int64_t vectors, std::int64_t most) {
  std::vector<std::int64_t> numbers;
  for (std::int64_t copies = 1; copies <= most;) {
    numbers.push_back(copies);
    const std::int64_t each = ceil_div(vectors, copies);
    if (each == 1) break;
    copies = ceil_div(vectors, each - 1);
  }
  return numbers;
}

LayerOptions options_of(const LayerLoad& load, const PoolMachine& machine, std::int64_t most,
                        const std::optional<std::int64_t>& copies) {
  std::vector<std::int64_t> numbers = {copies.value_or(1)};
  if (!copies) numbers = useful_copies(load.vectors, std::max(most / load.groups, machine.pool) / load.tiles);
  if (numbers.empty()) numbers = {1};  // a layer larger than all that there is passes in rounds
  LayerOptions options;
  for (const std::int64_t number : numbers) {
    if (load.passes) {
      options.push_back({0, passing_each(load, machine, number), number});
      continue;
    }
    options.push_back({0, passing(load, machine, load.groups, number), number});
    options.push_back({load.tiles * load.groups * number,
                       saturating_product(multiplying(load, number, machine.batch), load.groups), number});
  }
  if (numbers.front() == 1 && !load.passes) add_partial(options, load, machine);
  return front_of(std::move(options), most);
}

}  // namespace cimq::compiler
