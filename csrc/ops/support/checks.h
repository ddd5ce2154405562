// Checks shared by the operators. Messages start with the op's name; wrong values are ValueError, wrong types
// TypeError.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "common/error.h"

namespace cimq::ops {

/// Runs `body`; an Error of the torch-free code becomes a ValueError that starts with `op`.
template <typename Body>
auto translate_errors(const char* op, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    const std::string text = error.what();
    const bool named = text.rfind(op, 0) == 0;
    TORCH_CHECK_VALUE(false, named ? "" : op, named ? "" : ": ", text);
  }
}

/// The names of a tensor's shape and type for messages, e.g. "float32 [2, 3]".
std::string describe(const at::Tensor& tensor);

/// Refuses tensors that are not dense CPU tensors; cimq's kernels for other devices register themselves.
void check_cpu(const char* op, const char* name, const at::Tensor& tensor);

/// Refuses other types than float32.
void check_float(const char* op, const char* name, const at::Tensor& tensor);

/// Whether an optional argument is there.
inline bool given(const std::optional<at::Tensor>& tensor) { return tensor.has_value() && tensor->defined(); }

/// Refuses a parameter that is there and is not float32 of `shape`.
void check_parameter(const char* op, const char* name, const std::optional<at::Tensor>& values, at::IntArrayRef shape);

}  // namespace cimq::ops
