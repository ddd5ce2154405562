// REINFORCE over a masked, factored categorical policy (Williams 1992, doi 10.1007/BF00992696), with a leave-one-out
// baseline (Kool et al., "Buy 4 REINFORCE samples, get a baseline for free!", 2019).
// A policy is a row of independent heads; each picks one of its choices. LibTorch stays behind the implementation.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace cimq::agent {

using Masks = std::vector<std::vector<bool>>;        ///< [head][choice], true = allowed; heads may differ in length
using Actions = std::vector<std::int64_t>;           ///< [head], index of the choice
using HeadTable = std::vector<std::vector<double>>;  ///< [head][choice]

struct ReinforceOptions {
  std::uint64_t seed = 0;
  double learning_rate = 0.1;
  double beta1 = 0.9;                 ///< Adam
  double beta2 = 0.99;                ///< Adam
  double entropy_start = 0.02;        ///< weight of the entropy bonus (summed over heads) at the first update
  double entropy_end = 0.002;         ///< and from update `entropy_updates` on; geometric in between
  std::int64_t entropy_updates = 50;  ///< length of that schedule
  double advantage_clip = 2.0;        ///< normalised advantages are cut to +- this
};

/// What one update did.
struct UpdateReport {
  double mean_reward = 0;
  double entropy = 0;         ///< mean over heads with a choice, natural logarithm, before the update
  double entropy_weight = 0;  ///< of the schedule
  double gradient_norm = 0;   ///< Euclidean norm of the loss gradient
};

/// Everything that later behaviour depends on, besides masks and options. Plain numbers: exact in memory and as
/// shortest round-trip text.
struct ReinforceState {
  std::int64_t episode = 0;
  std::int64_t updates = 0;
  double exploration = 0;
  HeadTable logits;
  HeadTable first_moment;   ///< Adam
  HeadTable second_moment;  ///< Adam
};

class Reinforce {
 public:
  /// `logits` is the warm start; empty: all zero, i.e. uniform over the allowed choices.
  /// Throws Error for no heads, a head whose choices are all masked, sizes that differ, or options out of range.
  explicit Reinforce(const Masks& masks, const ReinforceOptions& options = {}, const HeadTable& logits = {});
  ~Reinforce();
  Reinforce(Reinforce&&) noexcept;
  Reinforce& operator=(Reinforce&&) noexcept;
  Reinforce(const Reinforce&) = delete;
  Reinforce& operator=(const Reinforce&) = delete;

  /// Draws the next `count` episodes. Head h of episode e is a function of (seed, e, h) and the present
  /// probabilities, so that nothing depends on how episodes are shared among workers.
  std::vector<Actions> sample(std::int64_t count);
  /// The actions of one episode under the present probabilities; does not advance anything.
  Actions sample_episode(std::int64_t episode) const;

  /// One Adam step on  -mean_i A_i sum_h log p_h(a_ih) - entropy_weight sum_h H_h  for at least two episodes.
  /// A_i = (r_i - mean of the other rewards) / (standard deviation of the rewards), clipped; 0 if all are equal.
  /// Throws Error, changing nothing, for wrong sizes, masked or unknown choices, or a reward that is not finite.
  UpdateReport update(const std::vector<Actions>& actions, const std::vector<double>& rewards);
  /// Gradient of that loss with respect to the logits; 0 for masked choices.
  HeadTable gradient(const std::vector<Actions>& actions, const std::vector<double>& rewards) const;

  HeadTable probabilities() const;  ///< of sampling, exploration included; masked choices have 0
  Actions greedy() const;           ///< most probable choice of every head, the first of equals

  /// Share of uniform choice mixed into every head, 0 (default) to 1; part of the state. The gradient is that of the
  /// mixture.
  void set_exploration(double share);
  double exploration() const;

  std::int64_t heads() const;
  std::int64_t episode() const;  ///< number of the next episode
  std::int64_t updates() const;

  ReinforceState state() const;
  /// Continues exactly where `state` was taken. Throws Error, changing nothing, if it does not fit the masks.
  void load_state(const ReinforceState& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Normalised leave-one-out advantages as `Reinforce::update` uses them.
std::vector<double> leave_one_out_advantages(const std::vector<double>& rewards, double clip);

}  // namespace cimq::agent
