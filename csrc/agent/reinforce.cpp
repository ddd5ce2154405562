#include "agent/reinforce.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/checks.h"
#include "common/error.h"
#include "common/philox.h"

namespace cimq::agent {
namespace {

// Far below any logit, so that exp() of the difference is exactly 0, and finite, so that 0 times it is not NaN.
constexpr double kMaskedLogit = -1e30;
constexpr double kAdamEpsilon = 1e-8;
// Keeps these draws apart from the ones that other users of Philox make with the same seed ("agnt").
constexpr std::uint32_t kPhiloxStream = 0x61676e74U;

/// Uniform in [0, 1) with 53 random bits, a function of its arguments alone.
double uniform_draw(std::uint64_t seed, std::int64_t episode, std::size_t head) {
  const auto e = static_cast<std::uint64_t>(episode);
  const PhiloxCounter counter{{static_cast<std::uint32_t>(e), static_cast<std::uint32_t>(e >> 32),
                               static_cast<std::uint32_t>(head), kPhiloxStream}};
  const PhiloxCounter draw = philox4x32(counter, philox_key(seed));
  const std::uint64_t bits = (static_cast<std::uint64_t>(draw.word[1]) << 32 | draw.word[0]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

Actions draw_episode(const HeadTable& probabilities, const Masks& masks, std::uint64_t seed, std::int64_t episode) {
  Actions actions;
  for (std::size_t h = 0; h < probabilities.size(); ++h) {
    const double draw = uniform_draw(seed, episode, h);
    double cumulative = 0;
    std::int64_t chosen = -1;
    for (std::size_t k = 0; k < probabilities[h].size(); ++k) {
      if (!masks[h][k] || probabilities[h][k] <= 0) continue;
      chosen = static_cast<std::int64_t>(k);  // the last one stays if rounding leaves the sum below the draw
      cumulative += probabilities[h][k];
      if (draw < cumulative) break;
    }
    actions.push_back(chosen);
  }
  return actions;
}

/// Gradients on, whatever mode the caller's thread is in (Python's no_grad and inference_mode are thread-wide).
struct LearningMode {
  c10::InferenceMode no_inference{false};
  torch::AutoGradMode gradients{true};
};

}  // namespace

struct Reinforce::Impl {
  Impl(const Masks& head_masks, const ReinforceOptions& given, const HeadTable& warm_start)
      : masks(head_masks), options(given) {
    check_masks(masks);
    check_options(options);
    if (!warm_start.empty()) check_table(warm_start, masks, "the warm-start logits");
    std::size_t width = 0;
    for (const auto& mask : masks) width = std::max(width, mask.size());
    const auto heads = static_cast<std::int64_t>(masks.size());
    allowed = torch::zeros({heads, static_cast<std::int64_t>(width)}, torch::kBool);
    auto cell = allowed.accessor<bool, 2>();
    for (std::size_t h = 0; h < masks.size(); ++h)
      for (std::size_t k = 0; k < masks[h].size(); ++k)
        cell[static_cast<std::int64_t>(h)][static_cast<std::int64_t>(k)] = masks[h][k];
    choices = allowed.sum(1, /*keepdim=*/true).to(torch::kDouble);
    logits = padded(warm_start).set_requires_grad(true);
    make_optimizer(torch::zeros_like(logits), torch::zeros_like(logits), 0);
  }

  /// [heads, width] of a ragged table, 0 where it is empty or masked.
  torch::Tensor padded(const HeadTable& table) const {
    torch::Tensor dense = torch::zeros(allowed.sizes(), torch::kDouble);
    auto cell = dense.accessor<double, 2>();
    for (std::size_t h = 0; h < table.size(); ++h)
      for (std::size_t k = 0; k < table[h].size(); ++k)
        if (masks[h][k]) cell[static_cast<std::int64_t>(h)][static_cast<std::int64_t>(k)] = table[h][k];
    return dense;
  }

  HeadTable ragged(const torch::Tensor& dense) const {
    const torch::Tensor values = dense.detach().contiguous();
    const auto cell = values.accessor<double, 2>();
    HeadTable table(masks.size());
    for (std::size_t h = 0; h < masks.size(); ++h)
      for (std::size_t k = 0; k < masks[h].size(); ++k)
        table[h].push_back(cell[static_cast<std::int64_t>(h)][static_cast<std::int64_t>(k)]);
    return table;
  }

  /// Log-probabilities [heads, width] of the pure policy; about kMaskedLogit where masked.
  torch::Tensor log_policy() const { return torch::log_softmax(logits.masked_fill(~allowed, kMaskedLogit), 1); }

  /// Probabilities of sampling: the policy mixed with the uniform distribution over the allowed choices.
  torch::Tensor mixture(const torch::Tensor& log_p) const {
    if (exploration == 0) return log_p.exp();
    return (1 - exploration) * log_p.exp() + exploration * allowed.to(torch::kDouble) / choices;
  }

  double entropy_weight() const {
    const double progress = std::min(1.0, static_cast<double>(updates) / static_cast<double>(options.entropy_updates));
    if (options.entropy_start == 0 || options.entropy_end == 0)
      return options.entropy_start + progress * (options.entropy_end - options.entropy_start);
    return options.entropy_start * std::pow(options.entropy_end / options.entropy_start, progress);
  }

  struct Loss {
    torch::Tensor value;
    torch::Tensor entropy;  // [heads]
  };

  Loss loss(const std::vector<Actions>& actions, const std::vector<double>& rewards) const {
    check_batch(actions, rewards, masks);
    const std::vector<double> advantages = leave_one_out_advantages(rewards, options.advantage_clip);
    torch::Tensor picked = torch::empty({allowed.size(0), static_cast<std::int64_t>(actions.size())}, torch::kLong);
    auto cell = picked.accessor<std::int64_t, 2>();
    for (std::size_t i = 0; i < actions.size(); ++i)
      for (std::size_t h = 0; h < masks.size(); ++h)
        cell[static_cast<std::int64_t>(h)][static_cast<std::int64_t>(i)] = actions[i][h];
    const torch::Tensor log_p = log_policy();
    // With exploration the score is that of the mixture which the episodes were drawn from.
    const torch::Tensor log_mix = exploration == 0 ? log_p : mixture(log_p).clamp_min(1e-300).log();
    const torch::Tensor score = log_mix.gather(1, picked).sum(0);  // [episodes]
    const torch::Tensor entropy = -(log_p.exp() * log_p).sum(1);
    const torch::Tensor advantage = torch::tensor(advantages, torch::kDouble);
    return {-(advantage * score).mean() - entropy_weight() * entropy.sum(), entropy};
  }

  torch::Tensor gradient_of(const Loss& loss) const { return torch::autograd::grad({loss.value}, {logits})[0]; }

  const torch::optim::AdamParamState& moments() const {
    return static_cast<const torch::optim::AdamParamState&>(*optimizer->state().at(logits.unsafeGetTensorImpl()));
  }

  void make_optimizer(const torch::Tensor& first, const torch::Tensor& second, std::int64_t steps) {
    const auto adam =
        torch::optim::AdamOptions(options.learning_rate).betas({options.beta1, options.beta2}).eps(kAdamEpsilon);
    optimizer = std::make_unique<torch::optim::Adam>(std::vector<torch::Tensor>{logits}, adam);
    auto start = std::make_unique<torch::optim::AdamParamState>();
    start->step(steps);
    start->exp_avg(first);
    start->exp_avg_sq(second);
    optimizer->state()[logits.unsafeGetTensorImpl()] = std::move(start);
  }

  Masks masks;
  ReinforceOptions options;
  torch::Tensor allowed;  // [heads, width] bool
  torch::Tensor choices;  // [heads, 1] double: number of allowed choices
  torch::Tensor logits;   // [heads, width] double; masked entries stay 0 and get no gradient
  std::unique_ptr<torch::optim::Adam> optimizer;
  std::int64_t episode = 0;
  std::int64_t updates = 0;
  double exploration = 0;
};

Reinforce::Reinforce(const Masks& masks, const ReinforceOptions& options, const HeadTable& logits)
    : impl_([&] {
        const LearningMode learning;
        return std::make_unique<Impl>(masks, options, logits);
      }()) {}
Reinforce::~Reinforce() = default;
Reinforce::Reinforce(Reinforce&&) noexcept = default;
Reinforce& Reinforce::operator=(Reinforce&&) noexcept = default;

std::vector<Actions> Reinforce::sample(std::int64_t count) {
  check(count >= 1, "Reinforce.sample: count must be at least 1, got ", count);
  const HeadTable p = probabilities();
  std::vector<Actions> batch;
  batch.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    batch.push_back(draw_episode(p, impl_->masks, impl_->options.seed, impl_->episode + i));
  impl_->episode += count;
  return batch;
}

Actions Reinforce::sample_episode(std::int64_t episode) const {
  check(episode >= 0, "Reinforce.sample_episode: episode must not be negative, got ", episode);
  return draw_episode(probabilities(), impl_->masks, impl_->options.seed, episode);
}

UpdateReport Reinforce::update(const std::vector<Actions>& actions, const std::vector<double>& rewards) {
  const LearningMode learning;
  const Impl::Loss loss = impl_->loss(actions, rewards);
  const torch::Tensor gradient = impl_->gradient_of(loss);
  const auto free_heads = (impl_->choices > 1).sum().item<double>();
  UpdateReport report;
  for (const double reward : rewards) report.mean_reward += reward / static_cast<double>(rewards.size());
  report.entropy = free_heads == 0 ? 0.0 : loss.entropy.sum().item<double>() / free_heads;
  report.entropy_weight = impl_->entropy_weight();
  report.gradient_norm = gradient.norm().item<double>();
  impl_->logits.mutable_grad() = gradient;
  impl_->optimizer->step();
  impl_->updates += 1;
  return report;
}

HeadTable Reinforce::gradient(const std::vector<Actions>& actions, const std::vector<double>& rewards) const {
  const LearningMode learning;
  return impl_->ragged(impl_->gradient_of(impl_->loss(actions, rewards)));
}

HeadTable Reinforce::probabilities() const {
  const LearningMode learning;
  return impl_->ragged(impl_->mixture(impl_->log_policy()));
}

Actions Reinforce::greedy() const {
  Actions best;
  for (const auto& head : probabilities()) best.push_back(std::max_element(head.begin(), head.end()) - head.begin());
  return best;
}

void Reinforce::set_exploration(double share) {
  check(share >= 0 && share <= 1, "Reinforce: exploration must be from 0 to 1, got ", share);
  impl_->exploration = share;
}

double Reinforce::exploration() const { return impl_->exploration; }
std::int64_t Reinforce::heads() const { return static_cast<std::int64_t>(impl_->masks.size()); }
std::int64_t Reinforce::episode() const { return impl_->episode; }
std::int64_t Reinforce::updates() const { return impl_->updates; }

ReinforceState Reinforce::state() const {
  const auto& moments = impl_->moments();
  return {impl_->episode,
          impl_->updates,
          impl_->exploration,
          impl_->ragged(impl_->logits),
          impl_->ragged(moments.exp_avg()),
          impl_->ragged(moments.exp_avg_sq())};
}

void Reinforce::load_state(const ReinforceState& state) {
  check_state(state, impl_->masks);
  const LearningMode learning;
  impl_->logits = impl_->padded(state.logits).set_requires_grad(true);
  impl_->make_optimizer(impl_->padded(state.first_moment), impl_->padded(state.second_moment), state.updates);
  impl_->episode = state.episode;
  impl_->updates = state.updates;
  impl_->exploration = state.exploration;
}

}  // namespace cimq::agent
