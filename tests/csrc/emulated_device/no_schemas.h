// Read before sources of csrc/ops that the emulated device brings a second time, for the checks in them: the schemas
// are those of the extension, and must not be registered twice.
#pragma once

#include <torch/library.h>

#undef TORCH_LIBRARY_FRAGMENT
#define TORCH_LIBRARY_FRAGMENT(ns, m) \
  [[maybe_unused]] static void C10_CONCATENATE(schemas_of_the_extension_, __LINE__)([[maybe_unused]] torch::Library & m)
