#include "emulation/run.h"

#include <utility>

namespace cimq::emulation {
namespace {

Order order_in_use = Order::kAscending;

LaunchHandler& launch_handler() {
  static LaunchHandler only;  // set by other static initialisers
  return only;
}

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

void on_launch(LaunchHandler handler) { launch_handler() = std::move(handler); }

void launch(const char* kernel, void* stream, dim3 blocks, dim3 threads, std::size_t shared_bytes,
            const std::function<void()>& body) {
  const auto grid = [&] { run(kernel, blocks, threads, shared_bytes, body); };
  launch_handler() ? launch_handler()(kernel, stream, grid) : grid();
}

}  // namespace cimq::emulation
