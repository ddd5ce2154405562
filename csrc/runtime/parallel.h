// Work shared between threads. The split never enters a result: every task writes its own part of the output.
#pragma once

#include <cstdint>
#include <functional>

namespace cimq::runtime {

/// Runs `task(0) ... task(tasks - 1)`, each once, on at most `threads` threads including the caller's. Rethrows the
/// error of the lowest task that failed. Threads live for the call only: nothing to break after fork().
void parallel_for(std::int64_t tasks, int threads, const std::function<void(std::int64_t)>& task);

/// Threads that this process is to use: OMP_NUM_THREADS where it is set (as PyTorch does), otherwise as many as there
/// are processors that it may run on.
int usable_threads();

}  // namespace cimq::runtime
