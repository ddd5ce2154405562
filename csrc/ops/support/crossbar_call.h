// The arguments of the crossbar operators, written once: their order in the schemas, their defaults, which operators
// take them and what depends on them. Schemas, kernels, calls, autograd and the keys of programs follow from it.
//
// A new option is a member of CrossbarCall with its default and a line in for_each(); what it does is read where
// crossbar_args.cpp makes the options of the kernels from the call. One that is a tensor with a gradient has a slot
// besides, in autograd/crossbar_function.h.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/util/flat_hash_map.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace cimq::ops {

class ProgramKey;

/// An operator: what stands before and behind the arguments of the call.
struct CrossbarOperator {
  unsigned bit;  ///< in CrossbarArgument::operators
  const char* name;
  std::size_t operand_count;
  const char* operands;
  bool has_wanted;  ///< ends with the gradients that are asked for
  const char* results;

  std::string schema() const;
};

inline constexpr CrossbarOperator kMvm{1, "crossbar_mvm", 2, "Tensor x_q, Tensor w_q", false, "Tensor"};
inline constexpr CrossbarOperator kConv2d{2, "crossbar_conv2d", 2, "Tensor x_q, Tensor w_q", false, "Tensor"};
inline constexpr CrossbarOperator kMvmBackward{
    4, "crossbar_mvm_backward", 3, "Tensor grad, Tensor x_q, Tensor w_q", true, "(Tensor, Tensor, Tensor)"};
inline constexpr CrossbarOperator kConv2dBackward{
    8, "crossbar_conv2d_backward", 3, "Tensor grad, Tensor x_q, Tensor w_q", true, "(Tensor, Tensor, Tensor)"};
inline constexpr CrossbarOperator kMvmConversions{16,    "crossbar_mvm_conversions",        2, "Tensor x_q, Tensor w_q",
                                                  false, "(Tensor, Tensor, Tensor, Tensor)"};
inline constexpr CrossbarOperator kConv2dConversions{
    32, "crossbar_conv2d_conversions", 2, "Tensor x_q, Tensor w_q", false, "(Tensor, Tensor, Tensor, Tensor)"};
inline constexpr CrossbarOperator kProgrammedLevels{64, "programmed_levels", 1, "Tensor w_q", false, "Tensor"};

struct CrossbarArgument {
  const char* name;
  unsigned operators;     ///< those that take it
  bool required = false;  ///< no default in the schemas
  bool programs = true;   ///< the cells depend on it; false only where that is certain
  bool plans = true;      ///< the plan depends on it (kernels::MvmPlan); false only where that is certain
};

struct CrossbarCall {
  std::string hardware;  ///< JSON
  std::int64_t weight_bits = 8;
  std::int64_t act_bits = 8;
  bool act_signed = false;
  std::vector<std::int64_t> stride{1, 1};         ///< vertical, horizontal
  std::vector<std::int64_t> padding{0, 0, 0, 0};  ///< left, right, top, bottom
  std::vector<std::int64_t> dilation{1, 1};       ///< vertical, horizontal
  std::int64_t groups = 1;
  std::optional<std::int64_t> chips;
  std::int64_t seed = 0;
  std::int64_t chip = 0;
  std::int64_t layer = 0;
  std::optional<at::Tensor> adc_lo;
  std::optional<at::Tensor> adc_lsb;
  std::string backend = "auto";
  std::int64_t first_access = 0;
  std::string adc_grad = "identity";
  std::int64_t first_output = 0;

  /// Calls visit(argument, member) in the order of the schemas.
  template <typename Call, typename Visit>
  static void for_each(Call& call, const Visit& visit) {
    constexpr unsigned kForwards = kMvm.bit | kConv2d.bit;
    constexpr unsigned kBackwards = kMvmBackward.bit | kConv2dBackward.bit;
    constexpr unsigned kConversions = kMvmConversions.bit | kConv2dConversions.bit;
    constexpr unsigned kConvs = kConv2d.bit | kConv2dBackward.bit | kConv2dConversions.bit;
    constexpr unsigned kProducts = kForwards | kBackwards | kConversions;
    constexpr unsigned kLevels = kProgrammedLevels.bit;
    visit(CrossbarArgument{.name = "hardware", .operators = kProducts | kLevels, .required = true}, call.hardware);
    visit(CrossbarArgument{.name = "weight_bits", .operators = kProducts | kLevels, .required = true},
          call.weight_bits);
    visit(CrossbarArgument{.name = "act_bits", .operators = kProducts, .required = true}, call.act_bits);
    visit(CrossbarArgument{.name = "act_signed", .operators = kProducts}, call.act_signed);
    visit(CrossbarArgument{.name = "stride", .operators = kConvs}, call.stride);
    visit(CrossbarArgument{.name = "padding", .operators = kConvs}, call.padding);
    visit(CrossbarArgument{.name = "dilation", .operators = kConvs}, call.dilation);
    visit(CrossbarArgument{.name = "groups", .operators = kConvs}, call.groups);
    visit(CrossbarArgument{.name = "chips", .operators = kProducts, .programs = false, .plans = false}, call.chips);
    visit(CrossbarArgument{.name = "seed", .operators = kProducts | kLevels, .plans = false}, call.seed);
    visit(CrossbarArgument{.name = "chip", .operators = kLevels, .plans = false}, call.chip);
    visit(CrossbarArgument{.name = "layer", .operators = kProducts | kLevels, .plans = false}, call.layer);
    visit(CrossbarArgument{.name = "adc_lo", .operators = kProducts}, call.adc_lo);
    visit(CrossbarArgument{.name = "adc_lsb", .operators = kProducts}, call.adc_lsb);
    visit(CrossbarArgument{.name = "backend", .operators = kForwards}, call.backend);
    visit(CrossbarArgument{.name = "first_access", .operators = kProducts, .programs = false, .plans = false},
          call.first_access);
    visit(CrossbarArgument{.name = "adc_grad", .operators = kForwards | kBackwards, .programs = false, .plans = false},
          call.adc_grad);
    visit(CrossbarArgument{.name = "first_output", .operators = kLevels}, call.first_output);
  }

  /// The arguments of `op` to the end of `stack`.
  void push(const CrossbarOperator& op, torch::jit::Stack& stack) const;

  using SavedData = ska::flat_hash_map<std::string, c10::IValue>;
  /// The arguments of `op` into the memory of an autograd context, and back. Tensors go their own way: a graph must not
  /// hold its inputs twice.
  void save(const CrossbarOperator& op, SavedData& data) const;
  static CrossbarCall load(const CrossbarOperator& op, const SavedData& data);

  /// Everything that determines the cells except the weights, their shape and the chip.
  void add_to(ProgramKey& key) const;
  /// Everything that determines the plan of a product except the shape of the weights.
  void add_plan_to(ProgramKey& key) const;
};

/// Gradients that are asked for.
struct WantedInputs {
  bool x = false;
  bool w = false;
  bool adc_lsb = false;

  bool any() const { return x || w || adc_lsb; }
};

/// What a kernel finds on the stack.
struct TakenCall {
  std::vector<at::Tensor> operands;
  CrossbarCall call;
  WantedInputs wanted;
};

/// Takes the arguments of `op` off the stack.
TakenCall take(const CrossbarOperator& op, torch::jit::Stack& stack);

/// A kernel for the dispatcher, whose results body(taken) puts onto the stack.
template <const CrossbarOperator& kOp, void (*kBody)(const TakenCall& taken, torch::jit::Stack& results)>
void boxed_kernel(const c10::OperatorHandle& /*op*/, torch::jit::Stack* stack) {
  kBody(take(kOp, *stack), *stack);
}

/// Calls an operator through the dispatcher. Returns its results.
template <const CrossbarOperator& kOp>
torch::jit::Stack call_crossbar(std::initializer_list<at::Tensor> operands, const CrossbarCall& call,
                                const WantedInputs& wanted = {}) {
  static const c10::OperatorHandle kHandle =
      c10::Dispatcher::singleton().findSchemaOrThrow((std::string("cimq::") + kOp.name).c_str(), "");
  torch::jit::Stack stack(operands.begin(), operands.end());
  call.push(kOp, stack);
  if (kOp.has_wanted) stack.emplace_back(std::array<bool, 3>{wanted.x, wanted.w, wanted.adc_lsb});
  kHandle.callBoxed(stack);
  return stack;
}

}  // namespace cimq::ops
