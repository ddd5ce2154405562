// How a bundle is loaded.
#pragma once

#include <cstdint>
#include <optional>

namespace cimq::runtime {

struct LoadOptions {
  int threads = 0;  ///< 0: OMP_NUM_THREADS, or all that the process may use; never changes a result
  std::optional<std::uint64_t> seed = std::nullopt;  ///< other device variation than the bundle's own
  std::optional<std::uint32_t> chip = std::nullopt;
  /// Refuses a network that needs more than this for one sample (intermediate values and what its steps take), or whose
  /// weights and programmed cells take more. Larger batches are run in parts that keep within it.
  std::uint64_t max_working_bytes = std::uint64_t{8} << 30;
  /// Refuses a network that needs more operations than this for one sample, and a check of more.
  std::uint64_t max_operations = 10'000'000'000'000;
};

}  // namespace cimq::runtime
