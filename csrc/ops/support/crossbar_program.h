// Programmed crossbars for a call: from the cache, or made for this call alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "ops/support/crossbar_args.h"
#include "ops/support/program_cache.h"

namespace cimq::ops {

/// Weights as they are programmed.
struct CrossbarWeights {
  at::Tensor q;  ///< int8, contiguous
  bool cached;   ///< what is programmed is kept
  bool checked;  ///< the range has been; else at programming: bytes equal to those of a program are in range
};

/// The program of args.options.chip. `add_shape(key)` adds what it depends on besides the call and the weights' bytes;
/// make(bytes of the weights) programs.
template <typename Program, typename AddShape, typename Make>
std::shared_ptr<const Program> program_of(ProgramCache<Program>& cache, const CrossbarCall& call,
                                          const CrossbarArgs& args, const CrossbarWeights& weights,
                                          const AddShape& add_shape, const Make& make) {
  const auto* bytes = weights.q.const_data_ptr<std::int8_t>();
  if (!weights.cached) return make(bytes);
  ProgramKey key;
  call.add_to(key);
  key.add(args.options.chip);
  add_shape(key);
  key.set_weights(bytes, static_cast<std::size_t>(weights.q.numel()));
  return cache.get(key, make);
}

/// Calls run(pointer) with the results of a product, int32 or float32.
template <typename Run>
void with_results(const at::Tensor& y, const Run& run) {
  y.scalar_type() == at::kInt ? run(y.mutable_data_ptr<std::int32_t>()) : run(y.mutable_data_ptr<float>());
}

}  // namespace cimq::ops
