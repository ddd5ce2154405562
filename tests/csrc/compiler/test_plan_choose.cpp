// Sharing crossbars out among layers: what is called exact equals trying everything.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <functional>
#include <numeric>
#include <random>

#include "common/error.h"
#include "compiler/plan/choose.h"
#include "compiler/plan/options.h"
#include "compiler/plan/stationary.h"

using namespace cimq::compiler;
using Catch::Matchers::Contains;

namespace {

using Layers = std::vector<LayerOptions>;

std::vector<OptionsView> views(const Layers& layers) { return {layers.begin(), layers.end()}; }

int draw(std::mt19937& random, int low, int high) {
  return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
}

/// More crossbars, less time; the first takes any number.
LayerOptions random_options(std::mt19937& random) {
  LayerOptions options = {{draw(random, 0, 3), static_cast<std::uint64_t>(draw(random, 20, 60)), 1}};
  for (int i = draw(random, 0, 5); i > 0 && options.back().time_ps > 6; --i) {
    LayerOption next = options.back();
    next.crossbars += draw(random, 1, 4);
    next.time_ps -= static_cast<std::uint64_t>(draw(random, 1, 6));
    options.push_back(next);
  }
  return options;
}

std::int64_t crossbars_of(const Layers& layers, const std::vector<std::size_t>& choice) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) sum += layers[i][choice[i]].crossbars;
  return sum;
}

std::uint64_t sum_of(const Layers& layers, const std::vector<std::size_t>& choice) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) sum += layers[i][choice[i]].time_ps;
  return sum;
}

std::uint64_t slowest_of(const Layers& layers, const std::vector<std::size_t>& choice) {
  std::uint64_t slowest = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) slowest = std::max(slowest, layers[i][choice[i]].time_ps);
  return slowest;
}

/// Least `cost` over all choices that fit, or nothing.
template <typename Cost>
std::optional<std::uint64_t> by_trying(const Layers& layers, std::int64_t crossbars, const Cost& cost) {
  std::optional<std::uint64_t> least;
  std::vector<std::size_t> choice(layers.size());
  const std::function<void(std::size_t)> from = [&](std::size_t layer) {
    if (layer == layers.size()) {
      if (crossbars_of(layers, choice) <= crossbars) least = std::min(least.value_or(UINT64_MAX), cost(layers, choice));
      return;
    }
    for (choice[layer] = 0; choice[layer] < layers[layer].size(); ++choice[layer]) from(layer + 1);
    choice[layer] = 0;
  };
  from(0);
  return least;
}

}  // namespace

TEST_CASE("The least sum and the least slowest layer are those of all choices", "[plan]") {
  std::mt19937 random(5);
  int possible = 0;
  for (int i = 0; i < 400; ++i) {
    Layers layers;
    for (int n = draw(random, 1, 5); n > 0; --n) layers.push_back(random_options(random));
    const std::int64_t crossbars = draw(random, 0, 40);
    INFO("case " << i << ", " << crossbars << " crossbars");
    const auto least_sum = by_trying(layers, crossbars, sum_of);
    const auto least_slowest = by_trying(layers, crossbars, slowest_of);
    const Choice latency = choose_latency(views(layers), crossbars);
    const Choice throughput = choose_throughput(views(layers), crossbars);
    const Choice greedy = choose_greedy(views(layers), crossbars);
    REQUIRE(latency.has_value() == least_sum.has_value());
    REQUIRE(throughput.has_value() == least_sum.has_value());
    REQUIRE(greedy.has_value() == least_sum.has_value());
    if (!latency) continue;
    ++possible;
    const Choice balanced = choose_balanced(views(layers), crossbars);
    REQUIRE(balanced.has_value());
    for (const Choice& choice : {latency, throughput, balanced, greedy})
      CHECK(crossbars_of(layers, *choice) <= crossbars);
    CHECK(sum_of(layers, *latency) == *least_sum);
    CHECK(cimq::compiler::least_slowest(views(layers), crossbars) == least_slowest);
    CHECK(slowest_of(layers, *throughput) == *least_slowest);
    const auto within = [&](std::uint64_t slowest) {
      return by_trying(layers, crossbars, [slowest](const Layers& all, const std::vector<std::size_t>& choice) {
        return slowest_of(all, choice) <= slowest ? sum_of(all, choice) : UINT64_MAX;
      });
    };
    CHECK(sum_of(layers, *throughput) == *within(*least_slowest));
    CHECK(sum_of(layers, *balanced) == *within(*least_slowest + *least_slowest / 2));
    // Greedy stops where no layer can take another step.
    for (std::size_t l = 0; l < layers.size(); ++l) {
      std::vector<std::size_t> next = *greedy;
      if (++next[l] < layers[l].size()) CHECK(crossbars_of(layers, next) > crossbars);
    }
  }
  CHECK(possible > 300);
}

TEST_CASE("A bound on the least sum is one, and near it where crossbars can be had in parts", "[plan]") {
  std::mt19937 random(6);
  int near = 0;
  for (int i = 0; i < 300; ++i) {
    Layers layers, hulls;
    for (int n = draw(random, 1, 5); n > 0; --n) layers.push_back(random_options(random));
    for (const LayerOptions& options : layers) hulls.push_back(lower_hull(options));
    const std::int64_t crossbars = draw(random, 0, 40);
    INFO("case " << i << ", " << crossbars << " crossbars");
    const auto least = by_trying(layers, crossbars, sum_of);
    if (!least) continue;
    const std::uint64_t bound = least_sum_bound(views(hulls), crossbars);
    CHECK(bound <= *least);
    if (bound + 3 >= *least) ++near;
    for (const LayerOptions& hull : hulls) {
      for (std::size_t k = 2; k < hull.size(); ++k) {
        const auto gain = [&](std::size_t a, std::size_t b) { return hull[a].time_ps - hull[b].time_ps; };
        const auto more = [&](std::size_t a, std::size_t b) {
          return static_cast<std::uint64_t>(hull[b].crossbars - hull[a].crossbars);
        };
        CHECK(gain(k - 2, k - 1) * more(k - 1, k) > gain(k - 1, k) * more(k - 2, k - 1));
      }
    }
  }
  CHECK(near > 200);
}

TEST_CASE("What is kept of a layer is what is asked for anew", "[plan]") {
  std::mt19937 random(8);
  PlanMemory kept(PoolMachine{0, 50, 0});
  for (int i = 0; i < 40; ++i) {
    std::vector<LayerLoad> loads;
    for (int n = draw(random, 1, 6); n > 0; --n) {
      loads.push_back({draw(random, 1, 4), 1, draw(random, 1, 20), draw(random, 1, 4)});
    }
    const std::int64_t crossbars = draw(random, 1, 60);
    for (const CopyRule rule : {CopyRule::kGreedy, CopyRule::kThroughput, CopyRule::kBalanced, CopyRule::kLatency}) {
      PlanMemory anew(PoolMachine{0, 50, 0});
      const StationaryPlan plan = plan_copies(kept, loads, crossbars, rule);
      const StationaryPlan same = plan_copies(anew, loads, crossbars, rule);
      CHECK(plan.time_ps == same.time_ps);
      CHECK(plan.resident == same.resident);
      CHECK(plan.copies == same.copies);
      CHECK(plan.pool == same.pool);
    }
  }
}

TEST_CASE("Of equal layers the first takes the crossbars", "[plan]") {
  const LayerOptions options = {{1, 80, 1}, {2, 40, 2}};
  const Layers layers = {options, options, options};
  CHECK(choose_greedy(views(layers), 4) == std::vector<std::size_t>{1, 0, 0});
  CHECK(choose_greedy(views(layers), 5) == std::vector<std::size_t>{1, 1, 0});
  // The slowest stays slow, whatever the others do.
  REQUIRE(choose_throughput(views(layers), 5).has_value());
  CHECK(slowest_of(layers, *choose_throughput(views(layers), 5)) == 80);
  CHECK(sum_of(layers, *choose_throughput(views(layers), 5)) == 160);
  CHECK(choose_throughput(views(layers), 6) == std::vector<std::size_t>{1, 1, 1});
  CHECK_FALSE(choose_greedy(views(layers), 2).has_value());
  CHECK_THROWS_WITH(copy_rule_named("fastest"),
                    Contains("the rules are none, greedy, throughput, balanced, latency, any"));
  CHECK(copy_rule_named("latency") == CopyRule::kLatency);
}

TEST_CASE("Copies are counted where they make a layer faster", "[plan]") {
  CHECK(useful_copies(10, 100) == std::vector<std::int64_t>{1, 2, 3, 4, 5, 10});
  CHECK(useful_copies(10, 4) == std::vector<std::int64_t>{1, 2, 3, 4});
  CHECK(useful_copies(1, 9) == std::vector<std::int64_t>{1});
  for (const std::int64_t vectors : {7, 60, 3136}) {
    std::vector<std::int64_t> all;
    for (std::int64_t copies = 1; copies <= vectors; ++copies) {
      const auto each = [&](std::int64_t n) { return (vectors + n - 1) / n; };
      if (copies == 1 || each(copies) < each(copies - 1)) all.push_back(copies);
    }
    CHECK(useful_copies(vectors, vectors) == all);
  }
}

TEST_CASE("Options of a layer: it passes, stays in part, stays with copies", "[plan]") {
  const auto each = [](const LayerOptions& options) {
    std::vector<std::array<std::int64_t, 3>> rows;
    for (const LayerOption& o : options) rows.push_back({o.crossbars, static_cast<std::int64_t>(o.time_ps), o.copies});
    return rows;
  };
  using Rows = std::vector<std::array<std::int64_t, 3>>;
  // 5 tiles of 4 vectors, 10 each; a pool of 2 takes 3 rounds.
  const LayerLoad load{5, 1, 4, 10};
  const PoolMachine pool{2, 100, 0};
  CHECK(each(options_of(load, pool, 20, std::nullopt)) ==
        Rows{{0, 420, 1}, {1, 280, 1}, {3, 140, 1}, {5, 40, 1}, {10, 20, 2}, {20, 10, 4}});
  CHECK(each(options_of(load, pool, 4, std::nullopt)) == Rows{{0, 420, 1}, {1, 280, 1}, {3, 140, 1}});
  CHECK(each(options_of(load, pool, 20, 2)) == Rows{{10, 20, 2}});  // two copies do not pass through the pool
  CHECK(each(options_of(load, {10, 100, 0}, 0, 2)) == Rows{{0, 120, 2}});
  // Through two ports: 5 turns of writing where 10 crossbars take their copies.
  CHECK(each(options_of(load, {10, 100, 2}, 0, std::nullopt)) == Rows{{0, 340, 1}});
  // Three groups of one tile each.
  CHECK(each(options_of({1, 3, 4, 10}, {1, 100, 0}, 12, std::nullopt)) ==
        Rows{{0, 420, 1}, {1, 320, 1}, {2, 220, 1}, {3, 120, 1}, {6, 60, 2}, {12, 30, 4}});
  CHECK(options_of(load, {0, 100, 0}, 4, std::nullopt).empty());
}

TEST_CASE("With copies a network is never slower, and more crossbars help", "[plan]") {
  std::mt19937 random(11);
  for (int i = 0; i < 60; ++i) {
    std::vector<LayerLoad> loads;
    for (int n = draw(random, 1, 5); n > 0; --n) {
      loads.push_back({draw(random, 1, 6), draw(random, 1, 3), draw(random, 1, 30), draw(random, 1, 9)});
    }
    PlanMemory memory(PoolMachine{0, draw(random, 0, 200), draw(random, 0, 3)});
    for (const std::int64_t crossbars : {1, 2, 5, 9, 30, 100}) {
      INFO("case " << i << ", " << crossbars << " crossbars");
      const StationaryPlan without = plan_stationary(memory, loads, crossbars);
      for (const CopyRule rule : {CopyRule::kGreedy, CopyRule::kLatency, CopyRule::kThroughput}) {
        const StationaryPlan plan = plan_copies(memory, loads, crossbars, rule);
        if (rule != CopyRule::kThroughput) CHECK_FALSE(without.better_than(plan));
        CHECK(std::accumulate(plan.resident.begin(), plan.resident.end(), plan.pool) <= crossbars);
        std::vector<LayerLoad> copied = loads;
        for (std::size_t l = 0; l < loads.size(); ++l) copied[l].copies = plan.copies[l];
        CHECK(plan_stationary(memory, copied, crossbars).time_ps == plan.time_ps);
      }
    }
    // Without a limit every vector has tiles of its own.
    const StationaryPlan all = plan_copies(memory, loads, std::nullopt, CopyRule::kLatency);
    std::uint64_t least = 0;
    for (const LayerLoad& load : loads) least += static_cast<std::uint64_t>(load.groups * load.vector_time_ps);
    CHECK(all.time_ps == least);
  }
}
