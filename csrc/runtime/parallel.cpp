#include "runtime/parallel.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sched.h>
#endif

namespace cimq::runtime {

int usable_threads() {
  // What OpenMP, and with it PyTorch, goes by: a number, or numbers of nested levels of which the first counts.
  constexpr int kMost = 1024;
  if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
    std::string_view text(wanted);
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    int threads = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), threads);
    const bool whole = end == text.data() + text.size() || *end == ',' || *end == ' ';
    if (status == std::errc() && whole && threads >= 1) return std::min(threads, kMost);
  }
#ifdef __linux__
  // Processors that the process may run on (taskset, containers), not those that there are. More than a cpu_set_t
  // holds is an error, which leaves the number that there are.
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

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
