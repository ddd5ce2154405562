#include "ops/support/crossbar_call.h"

#include <type_traits>
#include <utility>

#include "ops/support/program_cache.h"

namespace cimq::ops {
namespace {

using Ints = std::vector<std::int64_t>;

// ---- schemas: type and default of a member as the schema language writes them ----

const char* type_of(const std::string& /*member*/) { return "str"; }
const char* type_of(std::int64_t /*member*/) { return "int"; }
const char* type_of(bool /*member*/) { return "bool"; }
const char* type_of(const Ints& /*member*/) { return "int[]"; }
const char* type_of(const std::optional<std::int64_t>& /*member*/) { return "int?"; }
const char* type_of(const std::optional<at::Tensor>& /*member*/) { return "Tensor?"; }

std::string literal(const std::string& value) { return '"' + value + '"'; }
std::string literal(std::int64_t value) { return std::to_string(value); }
std::string literal(bool value) { return value ? "True" : "False"; }
std::string literal(const Ints& values) {
  std::string text;
  for (const std::int64_t value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
  return '[' + text + ']';
}
template <typename T>
std::string literal(const std::optional<T>& /*value*/) {
  return "None";
}

// ---- stack and saved data ----

void read(const c10::IValue& value, std::string& member) { member = value.toStringRef(); }
void read(const c10::IValue& value, std::int64_t& member) { member = value.toInt(); }
void read(const c10::IValue& value, bool& member) { member = value.toBool(); }
void read(const c10::IValue& value, Ints& member) { member = value.toIntVector(); }
template <typename T>
void read(const c10::IValue& value, std::optional<T>& member) {
  member = value.toOptional<T>();
}

template <typename T>
constexpr bool kIsTensor = std::is_same_v<std::remove_const_t<T>, std::optional<at::Tensor>>;

bool takes(const CrossbarOperator& op, const CrossbarArgument& argument) { return (argument.operators & op.bit) != 0; }

// ---- keys ----

void add_value(ProgramKey& key, const std::string& value) { key.add_bytes(value.data(), value.size()); }
void add_value(ProgramKey& key, const Ints& values) {
  key.add_bytes(values.data(), values.size() * sizeof(std::int64_t));
}
void add_value(ProgramKey& key, std::int64_t value) { key.add(value); }
void add_value(ProgramKey& key, bool value) { key.add(value); }
void add_value(ProgramKey& key, const std::optional<std::int64_t>& value) {
  key.add(value.has_value());
  key.add(value.value_or(0));
}
void add_value(ProgramKey& key, const std::optional<at::Tensor>& value) {
  key.add(value.has_value());
  if (!value.has_value()) return;
  const at::Tensor dense = value->contiguous();
  key.add(dense.scalar_type());
  add_value(key, dense.sizes().vec());
  key.add_bytes(dense.const_data_ptr(), dense.nbytes());
}

}  // namespace

std::string CrossbarOperator::schema() const {
  std::string text = std::string(name) + '(' + operands;
  const CrossbarCall defaults;
  CrossbarCall::for_each(defaults, [&](const CrossbarArgument& argument, const auto& member) {
    if (!takes(*this, argument)) return;
    text += std::string(", ") + type_of(member) + ' ' + argument.name;
    if (!argument.required) text += '=' + literal(member);
  });
  if (has_wanted) text += ", bool[3] wanted=[True, True, True]";
  return text + ") -> " + results;
}

void CrossbarCall::push(const CrossbarOperator& op, torch::jit::Stack& stack) const {
  for_each(*this, [&](const CrossbarArgument& argument, const auto& member) {
    if (takes(op, argument)) stack.emplace_back(member);
  });
}

void CrossbarCall::save(const CrossbarOperator& op, SavedData& data) const {
  for_each(*this, [&](const CrossbarArgument& argument, const auto& member) {
    if constexpr (!kIsTensor<std::remove_reference_t<decltype(member)>>) {
      if (takes(op, argument)) data[argument.name] = member;
    }
  });
}

CrossbarCall CrossbarCall::load(const CrossbarOperator& op, const SavedData& data) {
  CrossbarCall call;
  for_each(call, [&](const CrossbarArgument& argument, auto& member) {
    if constexpr (!kIsTensor<std::remove_reference_t<decltype(member)>>) {
      if (takes(op, argument)) read(data.at(argument.name), member);
    }
  });
  return call;
}

void CrossbarCall::add_to(ProgramKey& key) const {
  for_each(*this, [&](const CrossbarArgument& argument, const auto& member) {
    if (argument.programs) add_value(key, member);
  });
}

void CrossbarCall::add_plan_to(ProgramKey& key) const {
  for_each(*this, [&](const CrossbarArgument& argument, const auto& member) {
    if (argument.plans) add_value(key, member);
  });
}

TakenCall take(const CrossbarOperator& op, torch::jit::Stack& stack) {
  TakenCall taken;
  std::size_t count = op.operand_count + (op.has_wanted ? 1 : 0);
  CrossbarCall::for_each(taken.call, [&](const CrossbarArgument& argument, auto& /*member*/) {
    if (takes(op, argument)) ++count;
  });
  TORCH_INTERNAL_ASSERT(stack.size() >= count, op.name, ": the stack lacks arguments");
  auto next = stack.end() - static_cast<std::ptrdiff_t>(count);
  for (std::size_t j = 0; j < op.operand_count; ++j) taken.operands.push_back((next++)->toTensor());
  CrossbarCall::for_each(taken.call, [&](const CrossbarArgument& argument, auto& member) {
    if (takes(op, argument)) read(*next++, member);
  });
  if (op.has_wanted) {
    const c10::List<bool> wanted = next->toBoolList();
    taken.wanted = {wanted.get(0), wanted.get(1), wanted.get(2)};
  }
  torch::jit::drop(stack, count);
  return taken;
}

}  // namespace cimq::ops
