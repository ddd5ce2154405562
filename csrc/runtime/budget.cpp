#include "runtime/budget.h"

#include "common/error.h"
#include "common/printable.h"
#include "common/saturating.h"
#include "compiler/ir/operators.h"

namespace cimq::runtime {
namespace {

constexpr const char* kMoreMemory = "; raise max_working_bytes (--max-working-bytes) to allow it";
constexpr const char* kMoreWork = "; raise max_operations (--max-operations) to allow it";

std::string count_text(std::uint64_t count) { return count == kUncountable ? "2^64 or more" : message(count); }

}  // namespace

void Budget::keep(const compiler::Node& node, std::uint64_t bytes) {
  kept_bytes_ = saturating_sum(kept_bytes_, bytes);
  check(kept_bytes_ <= max_bytes_, "node '", printable(node.name), "' (", compiler::name_of(node.op),
        ") brings weights and programmed cells to ", count_text(kept_bytes_), " bytes, more than ", max_bytes_,
        kMoreMemory);
}

void Budget::operate(const compiler::Node& node, std::uint64_t operations) {
  operations_ = saturating_sum(operations_, operations);
  check(operations_ <= max_operations_, "node '", printable(node.name), "' (", compiler::name_of(node.op),
        ") brings one sample to ", count_text(operations_), " operations, more than ", max_operations_, kMoreWork);
}

void Budget::check_runs(std::uint64_t times, const std::string& what) const {
  const std::uint64_t all = saturating_product(operations_, times);
  check(all <= max_operations_, what, " asks for ", count_text(all), " operations (", times, " samples), more than ",
        max_operations_, kMoreWork);
}

void Budget::check_working(const compiler::Node& node, std::uint64_t bytes) const {
  check(bytes <= max_bytes_, "node '", printable(node.name), "' (", compiler::name_of(node.op), "): one sample needs ",
        count_text(bytes), " bytes at once, more than ", max_bytes_, " bytes of working memory", kMoreMemory);
}

void Budget::check_samples(std::uint64_t samples, std::uint64_t bytes) const {
  const std::uint64_t all = saturating_product(samples, bytes);
  check(samples <= 1 || all <= max_bytes_, "a batch of ", samples, " samples needs ", count_text(all),
        " bytes at once, more than ", max_bytes_, " bytes of working memory", kMoreMemory);
}

std::uint64_t operations_of(const compiler::Graph& graph, const compiler::Node& node) {
  const auto results = static_cast<std::uint64_t>(compiler::elements(node.shape));
  const std::uint64_t window = saturating_product(1, node.window.kernel[0], node.window.kernel[1]);
  const compiler::Product product = compiler::operator_of(node.op).product;
  if (product == compiler::Product::kConvolution) {
    return saturating_product(results, graph.shape_of(node.inputs[0])[0] / node.window.groups, window);
  }
  if (product == compiler::Product::kLinear || product == compiler::Product::kMatmul) {
    return saturating_product(results, graph.shape_of(node.inputs[0]).back());
  }
  std::uint64_t operations = saturating_product(results, window);
  for (const int input : node.inputs) {
    operations = saturating_sum(operations, static_cast<std::uint64_t>(compiler::elements(graph.shape_of(input))));
  }
  return operations;
}

}  // namespace cimq::runtime
