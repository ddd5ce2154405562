#include "compiler/plan/memory.h"

#include <span>

#include "compiler/plan/least_sum.h"

namespace cimq::compiler {
namespace {

constexpr std::size_t kMostOptions = std::size_t{1} << 22;  // 24 bytes each
constexpr std::size_t kMostTimes = std::size_t{1} << 20;

PoolMachine with_pool(PoolMachine machine, std::int64_t pool) {
  machine.pool = pool;
  return machine;
}

}  // namespace

std::size_t PlanMemory::Hash::operator()(const Question& question) const {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15U;
  std::uint64_t hash = 0;
  for (const std::int64_t value :
       {question.load.tiles, question.load.groups, question.load.vectors, question.load.vector_time_ps,
        question.load.copies, std::int64_t{question.load.passes}, question.a, question.b, question.c}) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * kOdd;
    hash ^= hash >> 29U;
  }
  return hash;
}

const KeptOptions& PlanMemory::options(const LayerLoad& load, std::int64_t pool, std::int64_t most,
                                       const std::optional<std::int64_t>& copies) {
  const auto [found, is_new] = options_.try_emplace({load, pool, most, copies.value_or(0)});
  KeptOptions& kept = found->second;
  if (is_new) {
    kept.all = options_of(load, with_pool(machine_, pool), most, copies);
    kept.hull = lower_hull(kept.all);
    size_ += kept.all.size() + kept.hull.size() + 1;
  }
  return kept;
}

const LayerOptions& PlanMemory::in_rows(const LayerLoad& load, const LayerRows& rows, std::int64_t most) {
  const auto [found, is_new] = in_rows_.try_emplace({load, rows.rows, rows.vectors, most});
  if (is_new) {
    found->second = options_in_rows(load, rows, most);
    size_ += found->second.size() + 1;
  }
  return found->second;
}

std::uint64_t PlanMemory::alone(const LayerLoad& load, std::int64_t pool, std::int64_t resident) {
  const auto [found, is_new] = alone_.try_emplace({load, pool, resident, 0});
  if (is_new) found->second = time_in_rounds(with_pool(machine_, pool), std::span(&load, 1), std::span(&resident, 1));
  return found->second;
}

void PlanMemory::tidy() {
  if (size_ < kMostOptions && alone_.size() < kMostTimes) return;
  options_.clear();
  in_rows_.clear();
  alone_.clear();
  size_ = 0;
}

}  // namespace cimq::compiler
