#include "emulation/fibers.h"

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define CIMQ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CIMQ_ASAN 1
#endif
#endif
#if defined(CIMQ_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace cimq::emulation {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // sanitized frames are several times as large as plain ones

// makecontext passes only ints; the emulation runs on one thread of the operating system at a time.
thread_local Fibers* entered = nullptr;

}  // namespace

struct Fibers::Fiber {
  ucontext_t context = {};
  void* mapping = nullptr;  // a page that nobody may touch, then the stack
  void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's

  void allocate() {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapping =
        mmap(nullptr, page + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) throw std::bad_alloc();
    mprotect(mapping, page, PROT_NONE);
    stack = static_cast<char*>(mapping) + page;
    stack_bytes = kStackBytes;
  }

  ~Fiber() {
    if (mapping != nullptr) munmap(mapping, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)) + kStackBytes);
  }
};

Fibers::Fibers() : outside_(std::make_unique<Fiber>()) {}
Fibers::~Fibers() = default;

void Fibers::start(int count, void (*entry)(void*), void* argument) {
  entry_ = entry;
  argument_ = argument;
  while (fibers_.size() < static_cast<std::size_t>(count)) {
    fibers_.push_back(std::make_unique<Fiber>());
    fibers_.back()->allocate();
  }
  for (int i = 0; i < count; ++i) {
    Fiber& fiber = *fibers_[static_cast<std::size_t>(i)];
#if defined(CIMQ_ASAN)
    // A fiber that was dropped has left the marks of its frames behind.
    ASAN_UNPOISON_MEMORY_REGION(fiber.stack, fiber.stack_bytes);
#endif
    fiber.fake_stack = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = fiber.stack_bytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Fibers::trampoline, 0);
    // AddressSanitizer's swapcontext would wipe the marks of the whole stack at every switch.
    fiber.context.uc_stack.ss_size = 0;
  }
}

void Fibers::resume(int index) {
  Fiber& fiber = *fibers_[static_cast<std::size_t>(index)];
  running_ = &fiber;
  entered = this;
#if defined(CIMQ_ASAN)
  __sanitizer_start_switch_fiber(&outside_->fake_stack, fiber.stack, fiber.stack_bytes);
#endif
  swapcontext(&outside_->context, &fiber.context);
#if defined(CIMQ_ASAN)
  __sanitizer_finish_switch_fiber(outside_->fake_stack, nullptr, nullptr);
#endif
  running_ = nullptr;
}

void Fibers::leave([[maybe_unused]] bool ends) {
  Fiber& fiber = *running_;
#if defined(CIMQ_ASAN)
  __sanitizer_start_switch_fiber(ends ? nullptr : &fiber.fake_stack, outside_->stack, outside_->stack_bytes);
#endif
  swapcontext(&fiber.context, &outside_->context);
#if defined(CIMQ_ASAN)
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &bottom, &outside_->stack_bytes);
  outside_->stack = const_cast<void*>(bottom);
#endif
}

void Fibers::pause() { leave(false); }

void Fibers::trampoline() {
  Fibers& self = *entered;
#if defined(CIMQ_ASAN)
  const void* bottom = nullptr;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &self.outside_->stack_bytes);
  self.outside_->stack = const_cast<void*>(bottom);
#endif
  self.entry_(self.argument_);
  self.leave(true);
}

}  // namespace cimq::emulation
