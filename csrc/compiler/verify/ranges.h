// Which products an instruction stands for, when loops run around it: sets of groups and input vectors, without
// unrolling a loop. Open loops are numbered from the outermost.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace cimq::compiler::verify {

inline constexpr std::size_t kMaxDepth = 6;  // of nested loops

/// base + sum of strides[d] * (variable of the open loop d).
struct Affine {
  std::int64_t base = 0;
  std::array<std::int64_t, kMaxDepth> strides{};

  friend bool operator==(const Affine&, const Affine&) = default;
};

/// [first, first + length), in every iteration of the open loops another one.
struct Range {
  Affine first;
  std::int64_t length = 1;

  friend bool operator==(const Range&, const Range&) = default;
};

/// Products of one tile, or parts of a result: digits (or 0 to 1) of the input vectors `at` of the groups `repeat`.
struct Box {
  std::int64_t layer = 0, tile = 0;
  std::int64_t digit_begin = 0, digit_end = 1;
  Range repeat, at;
  std::size_t instruction = 0;  ///< where it comes from
  std::uint64_t order = 0;      ///< counts instructions as they are looked at
};

/// The loop `depth` of `count` iterations ends: merges boxes from `begin` on that lie side by side, and widens each to
/// what all iterations did. Throws Error naming the instruction of a box that does not follow the loop's variable (its
/// work would be done again in every iteration), or not through consecutive numbers.
void close_loop(std::vector<Box>& boxes, std::size_t begin, std::size_t depth, std::int64_t count);

/// Joins boxes from `begin` on that lie side by side.
void merge(std::vector<Box>& boxes, std::size_t begin);

/// Lowest and highest value in loops of these counts.
std::int64_t lowest(const Affine& value);
std::int64_t highest(const Affine& value, std::span<const std::int64_t> counts);

/// How many products of repeat x at `part` has, in every iteration of the open loops; 0 where that differs.
std::int64_t common(const Box& part, const Range& repeat, const Range& at, std::span<const std::int64_t> counts);

/// Whether all of `part` is in repeat x at, in every iteration.
bool within(const Box& part, const Range& repeat, const Range& at);

/// Constant boxes of one tile and digit: the first (by position in the file) that has a product in common with another,
/// or null if no two have.
const Box* first_overlap(std::vector<const Box*> boxes);

}  // namespace cimq::compiler::verify
