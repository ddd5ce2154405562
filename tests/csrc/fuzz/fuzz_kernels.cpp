// libFuzzer's entry: `make fuzz`.
#include <cstddef>
#include <cstdint>

#include "check_kernels.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cimq::kernels::testing::check_kernels(data, size);  // an exception ends the process, with its message
  return 0;
}
