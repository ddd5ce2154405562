// Damages of slots and of pairs of slots:  D(x) = sum_i own_i(x_i) + sum_(i,j) strength_ij root_i(x_i) root_j(x_j).
// To first order the errors of layers add up; what two layers do to the outputs may point the same way or cancel, in
// proportion to the roots of what each does alone (CLADO, arXiv 2307.05657, has one number for each pair of choices).
// The cheapest choice within a damage is a quadratic programme over integers; here it is searched locally, from starts
// that the knapsack gives: `around` is the sum over slots that touches D in one choice. Free of torch and of libm.
#pragma once

#include <cstdint>
#include <vector>

namespace cimq::agent {

struct PairwiseOption {
  std::int64_t cost = 0;  ///< not negative
  double own = 0;         ///< finite, as is the root
  double root = 0;
};

struct SlotPair {
  std::int64_t first = 0;
  std::int64_t second = 0;
  double strength = 0;
};

class PairwiseDamage {
 public:
  /// Throws Error for no slots, a slot without an option, numbers out of range, or a pair that is no pair of slots.
  PairwiseDamage(std::vector<std::vector<PairwiseOption>> slots, const std::vector<SlotPair>& pairs);

  std::int64_t cost(const std::vector<std::int64_t>& choices) const;
  double damage(const std::vector<std::int64_t>& choices) const;
  /// [slot][option]: what replaces the choice of one slot alone changes the damage by differences of these; their sum
  /// over `choices` is D(choices).
  std::vector<std::vector<double>> around(const std::vector<std::int64_t>& choices) const;
  /// Local search with moves of one and of two slots: while one lowers the cost (or, at the same cost, the damage) and
  /// leaves the damage within `limit` (or lowers it, where it is beyond), the one that lowers it most is taken. The
  /// functions throw Error for choices that are none.
  std::vector<std::int64_t> polished(std::vector<std::int64_t> choices, double limit) const;

 private:
  void check_choices(const std::vector<std::int64_t>& choices) const;
  const PairwiseOption& at(std::size_t slot, std::int64_t option) const {
    return slots_[slot][static_cast<std::size_t>(option)];
  }
  /// sum_j strength_ij root_j(x_j), for every i
  std::vector<double> fields(const std::vector<std::int64_t>& choices) const;

  std::vector<std::vector<PairwiseOption>> slots_;
  std::vector<double> strength_;  ///< [slot][slot], symmetric, 0 on the diagonal
};

}  // namespace cimq::agent
