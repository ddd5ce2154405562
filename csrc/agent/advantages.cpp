#include <algorithm>
#include <cmath>

#include "agent/reinforce.h"

namespace cimq::agent {

std::vector<double> leave_one_out_advantages(const std::vector<double>& rewards, double clip) {
  std::vector<double> advantages(rewards.size(), 0.0);
  if (rewards.size() < 2) return advantages;
  const auto count = static_cast<double>(rewards.size());
  double mean = 0;
  for (const double reward : rewards) mean += reward / count;
  double variance = 0;
  for (const double reward : rewards) variance += (reward - mean) * (reward - mean) / count;
  const double deviation = std::sqrt(variance);
  const auto [low, high] = std::minmax_element(rewards.begin(), rewards.end());
  // Equal rewards say nothing; their computed deviation is 0 or, by rounding, nearly so.
  if (*low == *high || deviation == 0) return advantages;
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    // reward - mean of the others = (reward - mean of all) * n / (n - 1)
    const double difference = (rewards[i] - mean) * (count / (count - 1));
    advantages[i] = std::clamp(difference / deviation, -clip, clip);
  }
  return advantages;
}

}  // namespace cimq::agent
