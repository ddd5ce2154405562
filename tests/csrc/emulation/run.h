// Runs a grid: what a launch is in the emulation.
#pragma once

#include <cstddef>
#include <functional>

#include "emulation/block.h"
#include "emulation/vector_types.h"

namespace cimq::emulation {

/// Runs `body` as every thread of every block, one block after the other. Throws Fault.
void run(const char* kernel, dim3 blocks, dim3 threads, std::size_t shared_bytes, const std::function<void()>& body);

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
