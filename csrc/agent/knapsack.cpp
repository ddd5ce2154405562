#include "agent/knapsack.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/error.h"

namespace cimq::agent {
namespace {

struct Sum {
  std::int64_t cost = 0;
  double damage = 0;
  std::int32_t before = 0;
  std::int32_t option = 0;
};

void check_slots(const KnapsackSlots& slots, std::int64_t states) {
  check(!slots.empty(), "knapsack: there must be at least one slot");
  check(states >= 3 && states <= std::numeric_limits<std::int32_t>::max(), "knapsack: states must be 3 or more, got ",
        states);
  std::int64_t largest = 0;
  for (std::size_t s = 0; s < slots.size(); ++s) {
    check(!slots[s].empty(), "knapsack: slot ", s, " has no option");
    std::int64_t most = 0;
    for (const KnapsackOption& option : slots[s]) {
      check(option.cost >= 0, "knapsack: costs must not be negative, slot ", s, " has ", option.cost);
      check(std::isfinite(option.damage), "knapsack: damages must be finite, slot ", s, " has ", option.damage);
      most = std::max(most, option.cost);
    }
    check(most <= std::numeric_limits<std::int64_t>::max() - largest, "knapsack: the costs exceed 63 bits");
    largest += most;
  }
}

bool before(const Sum& a, const Sum& b) {
  if (a.cost != b.cost) return a.cost < b.cost;
  if (a.damage != b.damage) return a.damage < b.damage;
  return a.before != b.before ? a.before < b.before : a.option < b.option;
}

/// Sorts what is made of sorted runs of the same length.
void merge_runs(std::vector<Sum>& sums, std::size_t run) {
  std::vector<Sum> merged(sums.size());
  for (; run < sums.size(); run *= 2) {
    for (std::size_t begin = 0; begin < sums.size(); begin += 2 * run) {
      const auto at = [&](std::size_t position) {
        return sums.begin() + static_cast<std::ptrdiff_t>(std::min(position, sums.size()));
      };
      std::merge(at(begin), at(begin + run), at(begin + run), at(begin + 2 * run),
                 merged.begin() + static_cast<std::ptrdiff_t>(begin), before);
    }
    sums.swap(merged);
  }
}

/// Leaves, of sums in order of cost, those with less damage than every cheaper one.
void drop_dominated(std::vector<Sum>& sums) {
  std::size_t kept = 0;
  for (const Sum& sum : sums) {
    if (kept == 0 || sum.damage < sums[kept - 1].damage) sums[kept++] = sum;
  }
  sums.resize(kept);
}

/// At most `states` of them: the cheapest, and of every equal share of the range of costs the one with the least
/// damage.
void thin(std::vector<Sum>& sums, std::int64_t states) {
  const double low = static_cast<double>(sums.front().cost);
  const double width = (static_cast<double>(sums.back().cost) - low) / static_cast<double>(states - 2);
  std::size_t kept = 1;
  double share = -1;
  for (std::size_t i = 1; i < sums.size(); ++i) {
    const double at = std::floor((static_cast<double>(sums[i].cost) - low) / width);
    if (at == share) --kept;  // the later one has less damage
    share = at;
    sums[kept++] = sums[i];
  }
  sums.resize(kept);
}

}  // namespace

KnapsackFront::KnapsackFront(const KnapsackSlots& slots, std::int64_t states) {
  check_slots(slots, states);
  std::vector<Sum> sums{Sum{}};
  for (const auto& slot : slots) {
    std::vector<Sum> next;
    next.reserve(sums.size() * slot.size());
    for (std::size_t k = 0; k < slot.size(); ++k) {
      for (std::size_t i = 0; i < sums.size(); ++i) {
        next.push_back({sums[i].cost + slot[k].cost, sums[i].damage + slot[k].damage, static_cast<std::int32_t>(i),
                        static_cast<std::int32_t>(k)});
      }
    }
    merge_runs(next, sums.size());
    drop_dominated(next);
    if (static_cast<std::int64_t>(next.size()) > states) {
      thin(next, states);
      exact_ = false;
    }
    std::vector<Link>& links = links_.emplace_back();
    links.reserve(next.size());
    for (const Sum& sum : next) links.push_back({sum.before, sum.option});
    sums = std::move(next);
  }
  for (const Sum& sum : sums) {
    costs_.push_back(sum.cost);
    damages_.push_back(sum.damage);
  }
}

std::vector<std::int64_t> KnapsackFront::choices(std::int64_t point) const {
  check(point >= 0 && point < size(), "knapsack: point must be one of 0..", size() - 1, ", got ", point);
  std::vector<std::int64_t> chosen(links_.size());
  auto at = static_cast<std::size_t>(point);
  for (std::size_t slot = links_.size(); slot-- > 0;) {
    chosen[slot] = links_[slot][at].option;
    at = static_cast<std::size_t>(links_[slot][at].before);
  }
  return chosen;
}

}  // namespace cimq::agent
