// Uses the executor and the kernels from the installed package; exit status 0 if both answer.
#include <cstdio>
#include <cstring>

#include "common/error.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "runtime/executor.h"

int main() {
  const std::int8_t weights[] = {1, -2, 3, 4, 5, -6};
  const std::uint8_t x[] = {7, 8, 9};
  std::int32_t y[2] = {};
  cimq::kernels::MvmOptions options;
  options.weight_bits = 4;
  options.act_bits = 4;
  cimq::kernels::cpu::CrossbarMvm({cimq::Hardware{}, weights, 2, 3, options}).run(x, 1, y);
  if (y[0] != 18 || y[1] != 14) return 1;
  try {
    cimq::Executor::load("no such bundle");
  } catch (const cimq::Error& error) {
    std::puts(error.what());
    return std::strstr(error.what(), "must be a bundle folder") == nullptr ? 1 : 0;
  }
  return 1;
}
