// cimq::clear_caches and cimq::cache_entries.
#include "ops/support/caches.h"

#include <torch/library.h>

#include <cstdint>
#include <string>

namespace cimq::ops {
namespace {

c10::Dict<std::string, std::int64_t> cache_entries() {
  c10::Dict<std::string, std::int64_t> found;
  for (const NamedUsage& cache : cache_usage())
    found.insert(cache.name, static_cast<std::int64_t>(cache.usage.entries));
  return found;
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_FRAGMENT(cimq, m) {
  m.def("clear_caches() -> ()", TORCH_FN(cimq::ops::clear_caches));
  m.def("cache_entries() -> Dict(str, int)", TORCH_FN(cimq::ops::cache_entries));
}
