#include "compiler/verify/ranges.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "compiler/isa/program.h"

namespace cimq::compiler::verify {
namespace {

/// Everything of a box but where range `r` begins (within the iteration) and how long it is.
auto key_without(const Box& box, Range Box::* r, Range Box::* other) {
  const Range& range = box.*r;
  const Range& rest = box.*other;
  return std::tie(box.layer, box.tile, box.digit_begin, box.digit_end, rest.length, rest.first.base, rest.first.strides,
                  range.first.strides);
}

/// Joins boxes from `begin` on that continue one another in range `r` and are equal in the rest.
void merge(std::vector<Box>& boxes, std::size_t begin, Range Box::* r, Range Box::* other) {
  const auto first = boxes.begin() + static_cast<std::ptrdiff_t>(begin);
  if (boxes.end() - first < 2) return;
  std::sort(first, boxes.end(), [&](const Box& a, const Box& b) {
    const auto key_a = key_without(a, r, other);
    const auto key_b = key_without(b, r, other);
    if (key_a != key_b) return key_a < key_b;
    return std::pair((a.*r).first.base, a.order) < std::pair((b.*r).first.base, b.order);
  });
  auto last = first;
  for (auto box = first + 1; box != boxes.end(); ++box) {
    Range& joined = (*last).*r;
    if (key_without(*last, r, other) == key_without(*box, r, other) &&
        joined.first.base + joined.length == ((*box).*r).first.base) {
      joined.length += ((*box).*r).length;
    } else {
      *++last = *box;
    }
  }
  boxes.erase(last + 1, boxes.end());
}

/// The range of a box that follows the loop `depth`; null for none or both.
Range* moving(Box& box, std::size_t depth) {
  const bool repeats = box.repeat.first.strides[depth] != 0;
  const bool moves = box.at.first.strides[depth] != 0;
  if (repeats == moves) return nullptr;
  return repeats ? &box.repeat : &box.at;
}

/// Whether what the iterations do is in one piece.
bool in_one_piece(Box& box, std::size_t depth) {
  const Range* range = moving(box, depth);
  return range == nullptr || range->first.strides[depth] == range->length;
}

/// Boxes from `begin` on, digit by digit: digits that were split in different ways can then be joined.
void split_digits(std::vector<Box>& boxes, std::size_t begin) {
  std::vector<Box> split;
  for (std::size_t i = begin; i < boxes.size(); ++i) {
    for (std::int64_t d = boxes[i].digit_begin; d < boxes[i].digit_end; ++d) {
      split.push_back(boxes[i]);
      split.back().digit_begin = d;
      split.back().digit_end = d + 1;
    }
  }
  boxes.resize(begin);
  boxes.insert(boxes.end(), split.begin(), split.end());
}

/// Numbers that two ranges share which move alike.
std::int64_t shared(const Range& a, const Range& b) {
  const std::int64_t begin = std::max(a.first.base, b.first.base);
  const std::int64_t end = std::min(a.first.base + a.length, b.first.base + b.length);
  return std::max<std::int64_t>(0, end - begin);
}

/// Numbers of `whole` that are in `part` in every iteration.
std::int64_t common(const Range& part, const Range& whole, std::span<const std::int64_t> counts) {
  if (part.first.strides == whole.first.strides) return shared(part, whole);
  // A part that stands still may hold everything that `whole` comes to.
  const bool still = part.first.strides == Affine{}.strides;
  const bool holds = still && lowest(whole.first) >= part.first.base &&
                     highest(whole.first, counts) + whole.length <= part.first.base + part.length;
  return holds ? whole.length : 0;
}

bool within(const Range& part, const Range& whole) {
  return part.first.strides == whole.first.strides && shared(part, whole) == part.length;
}

}  // namespace

void merge(std::vector<Box>& boxes, std::size_t begin) {
  merge(boxes, begin, &Box::at, &Box::repeat);
  merge(boxes, begin, &Box::repeat, &Box::at);
}

void close_loop(std::vector<Box>& boxes, std::size_t begin, std::size_t depth, std::int64_t count) {
  if (begin >= boxes.size()) return;
  merge(boxes, begin);
  const auto first = boxes.begin() + static_cast<std::ptrdiff_t>(begin);
  if (count > 1 && !std::all_of(first, boxes.end(), [depth](Box& box) { return in_one_piece(box, depth); })) {
    split_digits(boxes, begin);
    merge(boxes, begin);
  }
  for (std::size_t i = begin; i < boxes.size(); ++i) {
    Box& box = boxes[i];
    Range* range = moving(box, depth);
    if (count == 1) {
      box.repeat.first.strides[depth] = box.at.first.strides[depth] = 0;
      continue;
    }
    check(range != nullptr, line_of(box.instruction), ": a loop around it does the same ", count,
          " times, or its variable is that of both 'at' and 'repeat'");
    check(in_one_piece(box, depth), line_of(box.instruction), ": what the iterations of a loop do to '",
          range == &box.repeat ? "repeat" : "at", "' must follow one another without gaps and not meet");
    range->first.strides[depth] = 0;
    range->length *= count;  // no more than the layer has: the bounds were checked
  }
}

std::int64_t lowest(const Affine& value) { return value.base; }  // strides are not negative

std::int64_t highest(const Affine& value, std::span<const std::int64_t> counts) {
  std::int64_t result = value.base;
  for (std::size_t d = 0; d < kMaxDepth; ++d) {
    if (value.strides[d] != 0) result += value.strides[d] * (counts[d] - 1);
  }
  return result;
}

std::int64_t common(const Box& part, const Range& repeat, const Range& at, std::span<const std::int64_t> counts) {
  return common(part.repeat, repeat, counts) * common(part.at, at, counts);
}

bool within(const Box& part, const Range& repeat, const Range& at) {
  return within(part.repeat, repeat) && within(part.at, at);
}

const Box* first_overlap(std::vector<const Box*> boxes) {
  const auto at_begin = [](const Box* box) { return box->at.first.base; };
  std::ranges::sort(boxes, {}, [&](const Box* box) { return std::pair(at_begin(box), box->instruction); });
  // Sweeps over input vectors; `open` has the boxes at the present one, by their groups, which must be apart.
  std::map<std::int64_t, const Box*> open;
  std::multimap<std::int64_t, std::map<std::int64_t, const Box*>::iterator> ends;
  for (const Box* box : boxes) {
    while (!ends.empty() && ends.begin()->first <= at_begin(box)) {
      open.erase(ends.begin()->second);
      ends.erase(ends.begin());
    }
    const std::int64_t begin = box->repeat.first.base;
    const auto next = open.lower_bound(begin);
    const bool meets_next = next != open.end() && next->first < begin + box->repeat.length;
    const bool meets_previous = next != open.begin() && [&] {
      const auto previous = std::prev(next);
      return previous->first + previous->second->repeat.length > begin;
    }();
    if (meets_next || meets_previous) return box;
    ends.emplace(at_begin(box) + box->at.length, open.emplace(begin, box).first);
  }
  return nullptr;
}

}  // namespace cimq::compiler::verify
