#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <random>

#include "agent/knapsack.h"
#include "common/error.h"

using namespace cimq::agent;

namespace {

KnapsackSlots random_slots(std::mt19937& numbers, int count, int most_options, std::int64_t most_cost) {
  KnapsackSlots slots;
  for (int s = 0; s < count; ++s) {
    auto& slot = slots.emplace_back();
    const int options = std::uniform_int_distribution<int>(1, most_options)(numbers);
    for (int k = 0; k < options; ++k) {
      slot.push_back({std::uniform_int_distribution<std::int64_t>(0, most_cost)(numbers),
                      std::uniform_real_distribution<double>(-0.5, 2.0)(numbers)});
    }
  }
  return slots;
}

/// Least damage for every cost, over all choices.
std::map<std::int64_t, double> all_sums(const KnapsackSlots& slots) {
  std::map<std::int64_t, double> sums{{0, 0.0}};
  for (const auto& slot : slots) {
    std::map<std::int64_t, double> next;
    for (const auto& [cost, damage] : sums) {
      for (const auto& option : slot) {
        const auto [at, fresh] = next.try_emplace(cost + option.cost, damage + option.damage);
        if (!fresh) at->second = std::min(at->second, damage + option.damage);
      }
    }
    sums = std::move(next);
  }
  return sums;
}

void check_choices(const KnapsackSlots& slots, const KnapsackFront& front) {
  for (std::int64_t point = 0; point < front.size(); ++point) {
    const auto choices = front.choices(point);
    std::int64_t cost = 0;
    double damage = 0;
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const KnapsackOption& option = slots[s].at(static_cast<std::size_t>(choices[s]));
      cost += option.cost;
      damage += option.damage;
    }
    CHECK(cost == front.costs()[static_cast<std::size_t>(point)]);
    CHECK(damage == front.damages()[static_cast<std::size_t>(point)]);
  }
}

}  // namespace

TEST_CASE("the front is that of all choices") {
  std::mt19937 numbers(GENERATE(range(1U, 40U)));
  const KnapsackSlots slots = random_slots(numbers, 5, 4, 9);
  const KnapsackFront front(slots, 1 << 14);
  REQUIRE(front.exact());
  double least = std::numeric_limits<double>::infinity();
  std::size_t point = 0;
  for (const auto& [cost, damage] : all_sums(slots)) {
    if (!(damage < least)) continue;
    least = damage;
    REQUIRE(point < front.costs().size());
    CHECK(front.costs()[point] == cost);
    CHECK(front.damages()[point] == Approx(damage));
    ++point;
  }
  CHECK(point == front.costs().size());
  check_choices(slots, front);
}

TEST_CASE("with fewer states the front keeps its bound") {
  std::mt19937 numbers(GENERATE(range(1U, 20U)));
  const KnapsackSlots slots = random_slots(numbers, 14, 6, 1000000);
  const KnapsackFront exact(slots, 1 << 24);
  REQUIRE(exact.exact());
  constexpr std::int64_t kStates = 12;
  const KnapsackFront few(slots, kStates);
  CHECK((!few.exact() || exact.size() <= kStates));
  CHECK(few.size() <= kStates);
  check_choices(slots, few);
  std::int64_t range = 0;
  for (const auto& slot : slots) {
    const auto less = [](const auto& a, const auto& b) { return a.cost < b.cost; };
    range +=
        std::max_element(slot.begin(), slot.end(), less)->cost - std::min_element(slot.begin(), slot.end(), less)->cost;
  }
  const double slack = 14.0 * static_cast<double>(range) / (kStates - 2);
  for (std::size_t point = 0; point < exact.costs().size(); ++point) {
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < few.costs().size(); ++i) {
      if (few.damages()[i] <= exact.damages()[point] + 1e-12) {
        best = std::min(best, static_cast<double>(few.costs()[i]));
      }
    }
    CHECK(best <= static_cast<double>(exact.costs()[point]) + slack);
  }
}

TEST_CASE("a knapsack refuses what is none") {
  CHECK_THROWS_AS(KnapsackFront({}, 10), cimq::Error);
  CHECK_THROWS_AS(KnapsackFront({{{1, 0.0}}, {}}, 10), cimq::Error);
  CHECK_THROWS_AS(KnapsackFront({{{-1, 0.0}}}, 10), cimq::Error);
  CHECK_THROWS_AS(KnapsackFront({{{1, std::numeric_limits<double>::quiet_NaN()}}}, 10), cimq::Error);
  CHECK_THROWS_AS(KnapsackFront({{{1, 0.0}}}, 2), cimq::Error);
  const std::int64_t large = std::numeric_limits<std::int64_t>::max() / 2 + 1;
  CHECK_THROWS_AS(KnapsackFront({{{large, 0.0}}, {{large, 0.0}}}, 10), cimq::Error);
  const KnapsackFront front({{{1, 0.0}}}, 10);
  CHECK_THROWS_AS(front.choices(1), cimq::Error);
  CHECK_THROWS_AS(front.choices(-1), cimq::Error);
}
