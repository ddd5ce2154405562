// Threads for work that is not split by whoever calls: programming a matrix.
#pragma once

#include <cstdint>
#include <functional>

namespace cimq::kernels::cpu {

using ParallelBody = std::function<void(std::int64_t begin, std::int64_t end)>;
/// Calls body(begin, end) for parts that cover [0, count), possibly at once, and returns when all are done. Parts of
/// fewer than `grain` items are not worth a thread.
using ParallelFor = void (*)(std::int64_t count, std::int64_t grain, const ParallelBody& body);

/// What kernels share work with from now on, in the whole process. Without it, and with null: the calling thread alone.
/// Results do not depend on it.
void use_threads(ParallelFor parallel_for);

void parallel_for(std::int64_t count, std::int64_t grain, const ParallelBody& body);

}  // namespace cimq::kernels::cpu
