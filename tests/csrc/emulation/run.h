// Runs a grid: what a launch is in the emulation.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>

#include "emulation/block.h"
#include "emulation/vector_types.h"

namespace cimq::emulation {

/// Runs `body` as every thread of every block, one block after the other. Throws Fault.
void run(const char* kernel, dim3 blocks, dim3 threads, std::size_t shared_bytes, const std::function<void()>& body);

/// The reason why a launch did not come to run, as the CUDA runtime has its own.
class LaunchRefused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What is done for a launch: `grid` runs it. By default that alone; the emulated device of torch sees streams here.
using LaunchHandler = std::function<void(const char* kernel, void* stream, const std::function<void()>& grid)>;
void on_launch(LaunchHandler handler);

/// What launch() of the kernels calls. Throws Fault or LaunchRefused.
void launch(const char* kernel, void* stream, dim3 blocks, dim3 threads, std::size_t shared_bytes,
            const std::function<void()>& body);

/// The order of blocks and threads in the following runs.
void set_order(Order order);

/// Calls `check` with each order, so that a result which hangs on it shows.
template <typename Check>
void in_every_order(const Check& check) {
  struct Restore {
    ~Restore() { set_order(Order::kAscending); }
  } restore;
  for (const Order order : {Order::kAscending, Order::kDescending}) {
    set_order(order);
    check();
  }
}

}  // namespace cimq::emulation
