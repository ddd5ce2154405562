// The multiple-choice knapsack: one option per slot, so that no other choice has both less cost and less damage.
// Slots are added one after the other and dominated sums dropped (Nemhauser and Ullmann, Management Science 15(9),
// 1969; Kellerer, Pferschy, Pisinger, Knapsack Problems, Springer 2004, section 11.5).
#pragma once

#include <cstdint>
#include <vector>

namespace cimq::agent {

struct KnapsackOption {
  std::int64_t cost = 0;  ///< not negative
  double damage = 0;      ///< finite
};

using KnapsackSlots = std::vector<std::vector<KnapsackOption>>;

/// The choices that no other beats, from the cheapest on; their damage falls.
class KnapsackFront {
 public:
  /// With at most `states` sums kept between slots the front is exact as long as no slot leaves more; beyond, of sums
  /// whose costs are within a share of 1 / (states - 2) of the range one is kept, so that a cost of the front exceeds
  /// the best possible one of no more damage by at most slots / (states - 2) of the range. Throws Error for no slots, a
  /// slot without an option, numbers out of range, costs whose sum exceeds 63 bits, or `states` below 3.
  KnapsackFront(const KnapsackSlots& slots, std::int64_t states);

  std::int64_t size() const { return static_cast<std::int64_t>(costs_.size()); }
  const std::vector<std::int64_t>& costs() const { return costs_; }
  const std::vector<double>& damages() const { return damages_; }
  /// The option of every slot in one point of the front. Throws Error for a point that is not there.
  std::vector<std::int64_t> choices(std::int64_t point) const;
  /// Whether no sum was left out.
  bool exact() const { return exact_; }

 private:
  /// How a sum came about.
  struct Link {
    std::int32_t before = 0;  ///< sum of the slots before
    std::int32_t option = 0;
  };

  std::vector<std::int64_t> costs_;
  std::vector<double> damages_;
  std::vector<std::vector<Link>> links_;  ///< [slot][sum]
  bool exact_ = true;
};

}  // namespace cimq::agent
