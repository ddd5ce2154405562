#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "agent/pairwise_damage.h"
#include "common/error.h"

using namespace cimq::agent;

namespace {

using Choices = std::vector<std::int64_t>;

struct Network {
  std::vector<std::vector<PairwiseOption>> slots;
  std::vector<SlotPair> pairs;

  double damage(const Choices& x) const {
    double sum = 0;
    for (std::size_t s = 0; s < slots.size(); ++s) sum += slots[s][static_cast<std::size_t>(x[s])].own;
    for (const SlotPair& pair : pairs) {
      const auto i = static_cast<std::size_t>(pair.first);
      const auto j = static_cast<std::size_t>(pair.second);
      sum +=
          pair.strength * slots[i][static_cast<std::size_t>(x[i])].root * slots[j][static_cast<std::size_t>(x[j])].root;
    }
    return sum;
  }

  std::int64_t cost(const Choices& x) const {
    std::int64_t sum = 0;
    for (std::size_t s = 0; s < slots.size(); ++s) sum += slots[s][static_cast<std::size_t>(x[s])].cost;
    return sum;
  }
};

Network made(std::uint32_t seed, std::size_t count, std::size_t options) {
  std::mt19937 numbers(seed);
  std::uniform_real_distribution<double> uniform(0.5, 1.5);
  Network network;
  for (std::size_t s = 0; s < count; ++s) {
    auto& slot = network.slots.emplace_back();
    const double size = uniform(numbers);
    for (std::size_t k = 0; k < options; ++k) {
      const double own = size * std::pow(4.0, static_cast<double>(k)) / 16;
      slot.push_back({static_cast<std::int64_t>(1000 * uniform(numbers)) + 700 * static_cast<std::int64_t>(options - k),
                      own, std::sqrt(own)});
    }
    for (std::size_t other = 0; other < s; ++other)
      network.pairs.push_back({static_cast<std::int64_t>(other), static_cast<std::int64_t>(s), uniform(numbers) - 1});
  }
  return network;
}

/// Calls `see` with every choice.
template <typename See>
void every(const Network& network, const See& see) {
  Choices x(network.slots.size(), 0);
  while (true) {
    see(x);
    std::size_t s = 0;
    for (; s < x.size(); ++s) {
      if (++x[s] < static_cast<std::int64_t>(network.slots[s].size())) break;
      x[s] = 0;
    }
    if (s == x.size()) return;
  }
}

}  // namespace

TEST_CASE("damages and costs are the written-out sums; `around` touches them in one choice") {
  const Network network = made(GENERATE(1U, 2U), 5, 3);
  const PairwiseDamage damage(network.slots, network.pairs);
  every(network, [&](const Choices& x) {
    REQUIRE(damage.damage(x) == Approx(network.damage(x)));
    REQUIRE(damage.cost(x) == network.cost(x));
  });
  const Choices x = {0, 2, 1, 1, 0};
  const auto table = damage.around(x);
  double sum = 0;
  for (std::size_t s = 0; s < x.size(); ++s) sum += table[s][static_cast<std::size_t>(x[s])];
  CHECK(sum == Approx(network.damage(x)));
  for (std::size_t s = 0; s < x.size(); ++s) {
    for (std::size_t k = 0; k < 3; ++k) {
      Choices moved = x;
      moved[s] = static_cast<std::int64_t>(k);
      CHECK(table[s][k] - table[s][static_cast<std::size_t>(x[s])] ==
            Approx(network.damage(moved) - network.damage(x)));
    }
  }
}

TEST_CASE("no change of one or two slots improves what local search returns") {
  const Network network = made(GENERATE(1U, 2U, 3U, 4U), 6, 3);
  const PairwiseDamage damage(network.slots, network.pairs);
  const double limit = 2.0;
  for (const Choices& start : {Choices(6, 0), Choices(6, 2), Choices{0, 1, 2, 2, 1, 0}}) {
    const Choices found = damage.polished(start, limit);
    REQUIRE(network.damage(found) <= limit + 1e-9);
    every(network, [&](const Choices& x) {
      int changed = 0;
      for (std::size_t s = 0; s < x.size(); ++s) changed += x[s] != found[s] ? 1 : 0;
      if (changed == 0 || changed > 2 || network.damage(x) > limit) return;
      REQUIRE(network.cost(x) >= network.cost(found));
      if (network.cost(x) == network.cost(found)) REQUIRE(network.damage(x) >= network.damage(found) - 1e-9);
    });
  }
}

TEST_CASE("local search comes close to the best of all choices") {
  double share = 0;
  constexpr int kNetworks = 10;
  for (std::uint32_t seed = 0; seed < kNetworks; ++seed) {
    const Network network = made(seed, 6, 3);
    std::int64_t best = std::numeric_limits<std::int64_t>::max();
    every(network, [&](const Choices& x) {
      if (network.damage(x) <= 2.0) best = std::min(best, network.cost(x));
    });
    const PairwiseDamage damage(network.slots, network.pairs);
    share += static_cast<double>(network.cost(damage.polished(Choices(6, 0), 2.0))) / static_cast<double>(best);
  }
  CHECK(share / kNetworks < 1.05);
}

TEST_CASE("where nothing is within the limit the damage falls as far as moves of one slot go") {
  const PairwiseDamage damage({{{4, 1.0, 1.0}, {2, 2.0, 1.0}}, {{4, 1.0, 1.0}, {2, 2.0, 1.0}}}, {});
  CHECK(damage.polished({1, 1}, 0.5) == Choices{0, 0});
}

TEST_CASE("pairwise damages refuse what is none") {
  using Slots = std::vector<std::vector<PairwiseOption>>;
  const Slots two = {{{1, 0.0, 0.0}}, {{1, 0.0, 0.0}, {0, 1.0, 1.0}}};
  CHECK_THROWS_AS(PairwiseDamage({}, {}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(Slots{{}}, {}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(Slots{{{-1, 0.0, 0.0}}}, {}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(Slots{{{1, std::nan(""), 0.0}}}, {}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(Slots{{{1, 0.0, std::nan("")}}}, {}), cimq::Error);
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  CHECK_THROWS_AS(PairwiseDamage(Slots{{{kLargest, 0.0, 0.0}}, {{1, 0.0, 0.0}}}, {}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(two, {{0, 0, 1.0}}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(two, {{0, 2, 1.0}}), cimq::Error);
  CHECK_THROWS_AS(PairwiseDamage(two, {{0, 1, std::nan("")}}), cimq::Error);
  const PairwiseDamage damage(two, {});
  CHECK_THROWS_AS(damage.damage({0}), cimq::Error);
  CHECK_THROWS_AS(damage.cost({0, 2}), cimq::Error);
  CHECK_THROWS_AS(damage.around({0, -1}), cimq::Error);
  CHECK_THROWS_AS(damage.polished({1, 0}, 1.0), cimq::Error);
}
