#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace cimq::runtime {

int usable_threads() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

void parallel_for(std::int64_t tasks, int threads, const std::function<void(std::int64_t)>& task) {
  std::atomic<std::int64_t> next = 0;
  std::mutex guard;
  std::int64_t failed = tasks;  // lowest task that threw
  std::exception_ptr error;
  const auto work = [&] {
    for (std::int64_t i = next++; i < tasks; i = next++) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
    }
  };
  const std::int64_t helpers = std::min<std::int64_t>(tasks, threads) - 1;
  std::vector<std::jthread> pool;
  bool more = true;
  for (std::int64_t i = 0; i < helpers && more; ++i) {
    try {
      pool.emplace_back(work);
    } catch (const std::system_error&) {
      more = false;  // the system gives no more threads: those that started and this one do the work
    }
  }
  work();
  pool.clear();  // joins
  if (error) std::rethrow_exception(error);
}

}  // namespace cimq::runtime
