#include "compiler/verify/state.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/error.h"

namespace cimq::compiler::verify {
namespace {

bool moves(const Affine& value) { return value.strides != Affine{}.strides; }

}  // namespace

std::string text_of(const Register& content) {
  const char* const texts[] = {"the quantised input", "the quantised second input", "that input vector", "sums",
                               "the product"};
  return message(texts[static_cast<std::size_t>(content.kind)], " of layer ", content.layer);
}

void State::write(std::int64_t crossbar, const Held& held) {
  crossbars_[crossbar] = held;
  if (moves(held.repeat)) loops_.back().crossbars.push_back(crossbar);
}

bool State::holds(std::int64_t crossbar, const Held& held) const {
  const auto found = crossbars_.find(crossbar);
  return found != crossbars_.end() && found->second == held;
}

void State::set(const std::string& name, std::int64_t lane, const Register& content) {
  registers_[name][lane] = content;
  if (moves(content.repeat) || moves(content.at)) loops_.back().registers.emplace_back(name, lane);
}

const Register* State::find(const std::string& name, std::int64_t lane) const {
  const auto lanes = registers_.find(name);
  if (lanes == registers_.end()) return nullptr;
  const auto found = lanes->second.find(lane);
  return found == lanes->second.end() ? nullptr : &found->second;
}

template <typename Change>
void State::change(const Change& change) {
  for (const std::int64_t crossbar : loops_.back().crossbars) change(crossbars_[crossbar].repeat);
  for (const auto& [name, lane] : loops_.back().registers) {
    Register& content = registers_[name][lane];
    change(content.repeat);
    change(content.at);
  }
}

void State::next_iteration(std::size_t depth) {
  deduplicate();
  change([depth](Affine& value) { value.base -= value.strides[depth]; });
}

void State::close_loop(std::size_t depth, std::int64_t count) {
  deduplicate();
  change([depth, count](Affine& value) {
    value.base += value.strides[depth] * (count - 1);
    value.strides[depth] = 0;
  });
  // What still moves with a loop further out is that loop's to replace.
  Loop closed = std::move(loops_.back());
  loops_.pop_back();
  if (loops_.empty()) return;
  for (const std::int64_t crossbar : closed.crossbars) loops_.back().crossbars.push_back(crossbar);
  for (auto& place : closed.registers) loops_.back().registers.push_back(std::move(place));
}

void State::deduplicate() {
  const auto unique = [](auto& values) {
    std::ranges::sort(values);
    const auto rest = std::ranges::unique(values);
    values.erase(rest.begin(), rest.end());
  };
  unique(loops_.back().crossbars);
  unique(loops_.back().registers);
}

}  // namespace cimq::compiler::verify
