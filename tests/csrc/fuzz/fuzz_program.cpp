// libFuzzer's entry: `make fuzz-readers`.
#include "check_bundle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cimq::testing::check_program(data, size);  // an exception ends the process, with its message
  return 0;
}
