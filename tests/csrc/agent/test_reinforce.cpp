#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "agent/reinforce.h"
#include "common/error.h"

using namespace cimq::agent;

namespace {

const Masks kMasks{{true, true, true}, {true, false, true, true}, {false, true}};

double bandit_reward(const Actions& actions) {
  static const HeadTable kValues{{0.1, 0.9, 0.2}, {1.0, 0, 0.3, 0.5}, {0, 0}};
  double reward = 0;
  for (std::size_t h = 0; h < actions.size(); ++h) reward += kValues[h][static_cast<std::size_t>(actions[h])];
  return reward;
}

std::vector<double> bandit_rewards(const std::vector<Actions>& batch) {
  std::vector<double> rewards;
  for (const auto& actions : batch) rewards.push_back(bandit_reward(actions));
  return rewards;
}

std::vector<double> softmax(const std::vector<double>& logits, const std::vector<bool>& mask) {
  std::vector<double> p(logits.size(), 0.0);
  double sum = 0;
  for (std::size_t k = 0; k < p.size(); ++k) sum += mask[k] ? std::exp(logits[k]) : 0.0;
  for (std::size_t k = 0; k < p.size(); ++k) p[k] = mask[k] ? std::exp(logits[k]) / sum : 0.0;
  return p;
}

}  // namespace

TEST_CASE("the agent finds the optimum of a bandit") {
  ReinforceOptions options;
  options.seed = 3;
  Reinforce agent(kMasks, options);
  for (int i = 0; i < 80; ++i) {
    const auto batch = agent.sample(8);
    agent.update(batch, bandit_rewards(batch));
  }
  CHECK(agent.greedy() == Actions{1, 0, 1});
  const HeadTable p = agent.probabilities();
  CHECK(p[0][1] > 0.9);
  CHECK(p[1][0] > 0.9);
  CHECK(p[2][1] == 1.0);
}

TEST_CASE("advantages leave the own reward out of the baseline") {
  const std::vector<double> rewards{1, 2, 4, 9};
  const double deviation = std::sqrt((9.0 + 4.0 + 0.0 + 25.0) / 4);
  const auto wide = leave_one_out_advantages(rewards, 100);
  CHECK(wide[0] == Approx((1 - 15.0 / 3) / deviation));
  CHECK(wide[1] == Approx((2 - 14.0 / 3) / deviation));
  CHECK(wide[2] == Approx(0).margin(1e-12));
  CHECK(wide[3] == Approx((9 - 7.0 / 3) / deviation));
  CHECK(leave_one_out_advantages(rewards, 0.5) == std::vector<double>{-0.5, -0.5, wide[2], 0.5});
  CHECK(leave_one_out_advantages({0.1, 0.1, 0.1}, 2) == std::vector<double>{0, 0, 0});
}

TEST_CASE("the gradient is the written-out one") {
  const double exploration = GENERATE(0.0, 0.25);
  const HeadTable logits{{0.3, -0.2, 1.0}, {0.5, 7.0, -0.4, 0.1}, {2.0, 3.0}};
  ReinforceOptions options;
  options.entropy_start = 0.07;
  Reinforce agent(kMasks, options, logits);
  agent.set_exploration(exploration);
  const std::vector<Actions> actions{{0, 2, 1}, {2, 3, 1}, {2, 0, 1}};
  const std::vector<double> rewards{0.5, -1, 2};
  const auto advantages = leave_one_out_advantages(rewards, options.advantage_clip);
  const HeadTable gradient = agent.gradient(actions, rewards);
  for (std::size_t h = 0; h < kMasks.size(); ++h) {
    const auto p = softmax(logits[h], kMasks[h]);
    const auto choices = static_cast<double>(std::count(kMasks[h].begin(), kMasks[h].end(), true));
    double entropy = 0;
    for (const double value : p) entropy -= value > 0 ? value * std::log(value) : 0;
    for (std::size_t k = 0; k < p.size(); ++k) {
      double expected = 0;
      for (std::size_t i = 0; i < actions.size(); ++i) {
        const auto picked = static_cast<std::size_t>(actions[i][h]);
        const double mixed = (1 - exploration) * p[picked] + exploration / choices;
        const double slope = (1 - exploration) * p[picked] * ((picked == k ? 1 : 0) - p[k]) / mixed;
        expected -= kMasks[h][k] ? advantages[i] * slope / 3 : 0;
      }
      // d entropy / d logit_k = -p_k (log p_k + entropy)
      if (p[k] > 0) expected += options.entropy_start * p[k] * (std::log(p[k]) + entropy);
      CHECK(gradient[h][k] == Approx(expected).margin(1e-12));
    }
  }
  CHECK(gradient[1][1] == 0);
  CHECK(gradient[2] == std::vector<double>{0, 0});
}

TEST_CASE("masked choices are never drawn and frequencies follow the probabilities") {
  const HeadTable logits{{0, 1, 2}, {0, 50, 0, 1}, {9, 0}};
  const double exploration = GENERATE(0.0, 0.3);
  Reinforce agent(kMasks, {}, logits);
  agent.set_exploration(exploration);
  const auto p = agent.probabilities();
  for (const auto& head : p) CHECK(std::accumulate(head.begin(), head.end(), 0.0) == Approx(1));
  constexpr int kDraws = 20000;
  HeadTable counts{{0, 0, 0}, {0, 0, 0, 0}, {0, 0}};
  for (const auto& actions : agent.sample(kDraws))
    for (std::size_t h = 0; h < actions.size(); ++h) counts[h][static_cast<std::size_t>(actions[h])] += 1.0 / kDraws;
  CHECK(counts[1][1] == 0);
  CHECK(counts[2][0] == 0);
  for (std::size_t h = 0; h < counts.size(); ++h)
    for (std::size_t k = 0; k < counts[h].size(); ++k) CHECK(counts[h][k] == Approx(p[h][k]).margin(0.015));
}

TEST_CASE("draws depend on seed, episode and head alone") {
  ReinforceOptions options;
  options.seed = 11;
  Reinforce whole(kMasks, options);
  Reinforce parts(kMasks, options);
  auto batch = parts.sample(1);
  for (const auto& actions : parts.sample(5)) batch.push_back(actions);
  CHECK(whole.sample(6) == batch);
  CHECK(whole.sample_episode(4) == batch[4]);
  CHECK(whole.episode() == 6);
  options.seed = 12;
  CHECK(Reinforce(kMasks, options).sample(6) != batch);
}

TEST_CASE("a loaded state continues exactly") {
  ReinforceOptions options;
  options.seed = 5;
  options.entropy_updates = 7;
  Reinforce first(kMasks, options);
  const auto step = [](Reinforce& agent) {
    const auto batch = agent.sample(4);
    agent.update(batch, bandit_rewards(batch));
  };
  for (int i = 0; i < 5; ++i) step(first);
  first.set_exploration(0.1);
  Reinforce second(kMasks, options);
  second.load_state(first.state());
  for (int i = 0; i < 5; ++i) {
    step(first);
    step(second);
  }
  CHECK(first.probabilities() == second.probabilities());
  CHECK(first.state().second_moment == second.state().second_moment);
  CHECK(second.updates() == 10);
  CHECK(second.exploration() == 0.1);
}

TEST_CASE("equal rewards leave only the entropy bonus, which fades as scheduled") {
  ReinforceOptions options;
  options.entropy_start = 0.08;
  options.entropy_end = 0.02;
  options.entropy_updates = 2;
  Reinforce agent(kMasks, options);  // uniform: the entropy is at its maximum, its gradient 0
  const std::vector<Actions> actions{{0, 2, 1}, {2, 3, 1}};
  std::vector<double> weights;
  for (int i = 0; i < 4; ++i) {
    const auto report = agent.update(actions, {1, 1});
    weights.push_back(report.entropy_weight);
    CHECK(report.gradient_norm == Approx(0).margin(1e-12));
    CHECK(report.entropy == Approx(std::log(3)));
  }
  CHECK(weights[0] == Approx(0.08));
  CHECK(weights[1] == Approx(0.04));
  CHECK(weights[2] == Approx(0.02));
  CHECK(weights[3] == Approx(0.02));
}

TEST_CASE("what cannot be learned from is refused and changes nothing") {
  const Masks one(1, std::vector<bool>(1, true));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_WITH(Reinforce(Masks{}), Catch::Contains("at least one head"));
  CHECK_THROWS_WITH(Reinforce(Masks{{true}, {false, false}}), Catch::Contains("head 1 must allow"));
  CHECK_THROWS_WITH(Reinforce(one, {}, {{0.0, 1.0}}), Catch::Contains("1 values for head 0, got 2"));
  CHECK_THROWS_WITH(Reinforce(one, {}, {{nan}}), Catch::Contains("must be finite"));
  ReinforceOptions options;
  options.learning_rate = -1;
  CHECK_THROWS_WITH(Reinforce(one, options), Catch::Contains("learning_rate must be positive"));

  Reinforce agent(kMasks);
  const auto before = agent.state();
  const Actions good{0, 0, 1};
  CHECK_THROWS_WITH(agent.update({good, good}, {1, nan}), Catch::Contains("reward 1 must be finite"));
  CHECK_THROWS_WITH(agent.update({good, good}, {1}), Catch::Contains("1 rewards for 2 episodes"));
  CHECK_THROWS_WITH(agent.update({good}, {1}), Catch::Contains("at least 2 episodes"));
  CHECK_THROWS_WITH(agent.update({good, {0, 0}}, {1, 2}), Catch::Contains("episode 1 must have one action"));
  CHECK_THROWS_WITH(agent.update({good, {0, 1, 1}}, {1, 2}), Catch::Contains("action 1 is masked"));
  CHECK_THROWS_WITH(agent.update({good, {3, 0, 1}}, {1, 2}), Catch::Contains("must be from 0 to 2, got 3"));
  CHECK_THROWS_WITH(agent.sample(0), Catch::Contains("at least 1"));
  CHECK_THROWS_WITH(agent.set_exploration(1.5), Catch::Contains("from 0 to 1"));
  auto broken = before;
  broken.logits.pop_back();
  CHECK_THROWS_WITH(agent.load_state(broken), Catch::Contains("state.logits must have 3 heads"));
  broken = before;
  broken.second_moment[0][0] = -1;
  CHECK_THROWS_AS(agent.load_state(broken), cimq::Error);
  CHECK(agent.state().logits == before.logits);
  CHECK(agent.updates() == 0);
}
