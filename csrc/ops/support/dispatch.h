// How an operator is called from C++: through the dispatcher, which finds autograd, device and whatever traces it.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace cimq::ops {

/// The operator `name` ("cimq::mean"), whose schema has the C++ form `Signature`.
template <typename Signature>
c10::TypedOperatorHandle<Signature> typed_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace cimq::ops
