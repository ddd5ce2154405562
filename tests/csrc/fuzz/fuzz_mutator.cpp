// libFuzzer's mutator for bundles.
#include <algorithm>

#include "bundle_input.h"
#include "mutate_bundle.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  cimq::testing::BundleInput bundle(data, size);
  cimq::testing::mutate_bundle(bundle, seed, LLVMFuzzerMutate);
  const std::vector<std::uint8_t> changed = bundle.packed();
  if (changed.size() > max_size) return size;
  std::copy(changed.begin(), changed.end(), data);
  return changed.size();
}
