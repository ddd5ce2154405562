#include "emulation/run.h"

namespace cimq::emulation {
namespace {

Order order_in_use = Order::kAscending;

}  // namespace

void set_order(Order order) { order_in_use = order; }

void run(const char* kernel, dim3 blocks, dim3 threads, std::size_t shared_bytes, const std::function<void()>& body) {
  static Block block;  // keeps its fibers' stacks
  const unsigned count = blocks.x * blocks.y * blocks.z;
  for (unsigned i = 0; i < count; ++i) {
    const unsigned linear = order_in_use == Order::kAscending ? i : count - 1 - i;
    const uint3 index = {linear % blocks.x, linear / blocks.x % blocks.y, linear / (blocks.x * blocks.y)};
    block.run(kernel, index, blocks, threads, shared_bytes, order_in_use, body);
  }
}

}  // namespace cimq::emulation
