#include "kernels/cpu/parallel.h"

#include <atomic>

namespace cimq::kernels::cpu {
namespace {
std::atomic<ParallelFor> in_use{nullptr};
}  // namespace

void use_threads(ParallelFor parallel_for) { in_use.store(parallel_for, std::memory_order_release); }

void parallel_for(std::int64_t count, std::int64_t grain, const ParallelBody& body) {
  if (count <= 0) return;
  const ParallelFor shared = in_use.load(std::memory_order_acquire);
  if (shared != nullptr && count > grain) {
    shared(count, grain, body);
  } else {
    body(0, count);
  }
}

}  // namespace cimq::kernels::cpu
