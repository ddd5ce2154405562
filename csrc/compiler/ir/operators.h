// The operator table: everything that the compiler knows of an operation stands in one row. The reader of layers.json
// takes names, inputs, attributes and tensors from it, graphs their shapes; the executor has one step for each row
// (runtime/steps/step.h). docs/adding_an_op.md shows how to add one.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "compiler/ir/graph.h"
#include "compiler/ir/limits.h"

namespace cimq::compiler {

/// Where a node keeps an attribute. What it refers to is the attribute's type: a flag, a finite float32 or float64, a
/// float32 that may be null, an integer, a list of integers as long as the file says, a list of fixed length.
using AttributePlace =
    std::variant<bool& (*)(Node&), float& (*)(Node&), double& (*)(Node&), std::optional<float>& (*)(Node&),
                 std::int64_t& (*)(Node&), Shape& (*)(Node&), std::vector<std::int64_t*> (*)(Node&)>;

/// One key of a node's `attrs` in layers.json.
struct Attribute {
  const char* key;
  AttributePlace place;
  std::int64_t lowest = 0, highest = kMaxExtent;  ///< of integers, also of each in a list
  /// of floats; both kinds must fit float32
  float smallest = -std::numeric_limits<float>::max(), largest = std::numeric_limits<float>::max();
  bool required = true;  ///< else it may be missing and the node keeps its default (formats grow this way)
};

/// What of a node is a product with a matrix (of weights, or for kMatmul the second input), and which of its dimensions
/// are the inputs of an output.
enum class Product { kNone, kConvolution, kLinear, kMatmul };

struct Operator {
  OpKind kind;
  std::string_view name;  ///< `op` in layers.json
  std::size_t min_inputs, max_inputs;
  /// Shape of the result from those of the inputs; throws Error naming the node where they do not fit.
  Shape (*shape)(const Graph&, const Node&);
  /// Rows of an input that the first rows of the result need; nothing where the result is not computed in parts.
  std::optional<std::int64_t> (*rows)(const Graph&, const Node&, std::size_t input, std::int64_t end);
  std::vector<Attribute> attributes = {};
  std::vector<const char*> tensors = {};           ///< roles that must be there
  std::vector<const char*> optional_tensors = {};  ///< roles that may be there
  /// Called when the attributes are read: what they must fulfil together, and what follows from them. May be null.
  void (*complete)(Node&) = nullptr;
  Product product = Product::kNone;
  bool on_crossbars = false;  ///< the product is made by crossbars: the node has a CrossbarLayer
};

/// All operators.
std::span<const Operator> operators();
/// The row of an operator that is there by construction.
const Operator& operator_of(OpKind kind);
/// Null for an unknown name.
const Operator* find_operator(std::string_view name);

}  // namespace cimq::compiler
