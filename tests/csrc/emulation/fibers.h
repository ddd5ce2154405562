// Fibers: functions that stop in the middle and go on later, all on one thread of the operating system. One fiber is
// one thread of a block. AddressSanitizer is told of every switch.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace cimq::emulation {

class Fibers {
 public:
  Fibers();
  ~Fibers();
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  /// Prepares fibers 0 .. count - 1; each calls entry(argument) when it is first resumed. Fibers of an earlier start
  /// that have not ended are dropped as they are.
  void start(int count, void (*entry)(void* argument), void* argument);

  /// Runs a fiber until it pauses or ends.
  void resume(int index);

  /// From inside a fiber: back to the caller of resume.
  void pause();

 private:
  struct Fiber;
  static void trampoline();
  void leave(bool ends);

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::unique_ptr<Fiber> outside_;  // whoever calls resume
  Fiber* running_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
};

}  // namespace cimq::emulation
