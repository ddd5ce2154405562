#include "compiler/verify/products.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/error.h"
#include "compiler/isa/program.h"

namespace cimq::compiler::verify {
namespace {

/// Number of the first box from `first` in order on.
std::size_t begin_of(const std::vector<Box>& boxes, std::uint64_t first) {
  std::size_t begin = boxes.size();
  while (begin > 0 && boxes[begin - 1].order >= first) --begin;
  return begin;
}

std::int64_t area(const Box& box) { return box.repeat.length * box.at.length; }

std::string seen_text(const LayerWork& work, std::int64_t tile, std::int64_t seen, std::int64_t wanted) {
  return message("tile ", tile, " of layer '", work.name, "' sees a digit ", seen, " times instead of ", wanted);
}

}  // namespace

std::vector<Box>& Products::sums(const std::string& name) {
  if (!loops_.empty() && (loops_.back().names.empty() || loops_.back().names.back() != name)) {
    loops_.back().names.push_back(name);
  }
  return sums_[name];
}

void Products::made(Box box, const std::string& acc) {
  box.order = order_++;
  made_.push_back(box);
  sums(acc).push_back(box);
}

void Products::add_up(Box box, const std::string& acc, const std::string& y, std::span<const std::int64_t> counts) {
  const LayerWork& work = layers_[static_cast<std::size_t>(box.layer)];
  const auto digits = static_cast<std::size_t>(work.digits);
  std::vector<Box>& added = sums(acc);
  std::vector<std::int64_t> seen(static_cast<std::size_t>(work.tiles) * digits);
  for (const Box& part : added) {
    const std::int64_t common_area = common(part, box.repeat, box.at, counts);
    for (std::int64_t d = part.digit_begin; common_area > 0 && d < part.digit_end; ++d) {
      seen[static_cast<std::size_t>(part.tile) * digits + static_cast<std::size_t>(d)] += common_area;
    }
  }
  const auto wrong = std::ranges::find_if(seen, [&](std::int64_t count) { return count != area(box); });
  if (wrong != seen.end()) {
    const std::int64_t all = work.repeats * work.invocations;
    const std::int64_t tile = (wrong - seen.begin()) / work.digits;
    throw Error(message(line_of(box.instruction), ": ", seen_text(work, tile, *wrong * (all / area(box)), all)));
  }
  std::erase_if(added, [&](const Box& part) { return within(part, box.repeat, box.at); });
  box.order = order_++;
  sums(y).push_back(box);
}

void Products::check_complete(const std::string& y, std::int64_t layer, const Range& at, ProgramLine where) const {
  const LayerWork& work = layers_[static_cast<std::size_t>(layer)];
  std::int64_t done = 0;
  std::vector<const Box*> boxes;
  const auto found = sums_.find(y);
  if (found != sums_.end()) {
    const Range all{{}, work.repeats};
    for (const Box& box : found->second) {
      const std::int64_t of_these = common(box, all, at, {});
      if (of_these == 0) continue;
      done += of_these;
      boxes.push_back(&box);
    }
  }
  const std::int64_t wanted = work.repeats * at.length;
  check(done == wanted && first_overlap(boxes) == nullptr, where, ": '", y, "' has ", done, " of the ", wanted,
        " results of layer '", work.name, "'");
}

void Products::check_all() {
  const auto place = [](const Box& box) { return std::tuple(box.layer, box.tile, box.instruction); };
  std::ranges::sort(made_, {}, place);
  std::size_t at = 0;
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    const LayerWork& work = layers_[layer];
    for (std::int64_t tile = 0; tile < work.tiles; ++tile) {
      const std::size_t begin = at;
      while (at < made_.size() && made_[at].layer == static_cast<std::int64_t>(layer) && made_[at].tile == tile) ++at;
      check_tile(work, tile, std::span(made_).subspan(begin, at - begin));
    }
  }
}

void Products::check_tile(const LayerWork& work, std::int64_t tile, std::span<const Box> boxes) {
  const std::int64_t wanted = work.repeats * work.invocations;
  for (std::int64_t d = 0; d < work.digits; ++d) {
    std::int64_t seen = 0;
    std::vector<const Box*> with_digit;
    for (const Box& box : boxes) {
      if (d < box.digit_begin || d >= box.digit_end) continue;
      seen += area(box);
      with_digit.push_back(&box);
    }
    if (seen != wanted) throw Error("program.jsonl: " + seen_text(work, tile, seen, wanted));
    const Box* again = first_overlap(with_digit);
    check(again == nullptr, line_of(again == nullptr ? 0 : again->instruction), ": tile ", tile, " of layer '",
          work.name, "' has seen digit ", d, " of some of these input vectors already");
  }
}

template <typename Change>
void Products::leave_loop(const Change& change) {
  Loop loop = std::move(loops_.back());
  loops_.pop_back();
  change(made_, begin_of(made_, loop.first));
  std::ranges::sort(loop.names);
  const auto rest = std::ranges::unique(loop.names);
  loop.names.erase(rest.begin(), rest.end());
  for (std::string& name : loop.names) {
    const auto found = sums_.find(name);
    if (found != sums_.end()) change(found->second, begin_of(found->second, loop.first));
    if (!loops_.empty()) loops_.back().names.push_back(std::move(name));
  }
}

void Products::close_loop(std::size_t depth, std::int64_t count) {
  leave_loop(
      [depth, count](std::vector<Box>& boxes, std::size_t begin) { verify::close_loop(boxes, begin, depth, count); });
}

void Products::close_walked_loop() { leave_loop(verify::merge); }

}  // namespace cimq::compiler::verify
