// What a machine has, and from when on an instruction may use it. Everything is given out in the order of the program:
// a resource that is larger or faster then never slows a program down, as it can where later instructions overtake.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <utility>
#include <vector>

#include "compiler/isa/program.h"
#include "compiler/sim/moment.h"

namespace cimq::compiler::sim {

/// Ports through which crossbars are written: the one that is free first is taken.
class WritePorts {
 public:
  explicit WritePorts(const std::optional<std::int64_t>& count) : unused_(count) {}

  /// When a write that is otherwise ready at `at` may begin.
  Moment begin(const Moment& at);
  void end(const Moment& at);

 private:
  struct Later {
    bool operator()(const Moment& a, const Moment& b) const { return a.time_ps > b.time_ps; }
  };
  std::optional<std::int64_t> unused_;  // ports that no write has gone through yet; none: no limit
  std::priority_queue<Moment, std::vector<Moment>, Later> busy_;
};

/// A direction of the bus, or the vector unit: does one thing at a time.
class Unit {
 public:
  explicit Unit(Cause cause) : cause_(cause) {}

  /// The end of what is ready at `at` and takes so long.
  Moment run(Chains& chains, const Moment& at, std::int32_t layer, std::int64_t ps) {
    if (ps == 0) return at;
    free_ = chains.spend(later(at, free_), layer, cause_, ps);
    busy_ps_ += ps;
    return free_;
  }
  std::int64_t busy_ps() const { return busy_ps_; }

 private:
  Cause cause_;
  Moment free_;
  std::int64_t busy_ps_ = 0;
};

/// Who asks for space, for errors.
struct Request {
  std::size_t instruction = 0;
  const char* op = "";
  const char* what = "";
  const std::string& layer;
};

/// Space for input vectors and sums, given out in the order of the program.
class Buffer {
 public:
  explicit Buffer(const std::optional<std::int64_t>& bytes) : bytes_(bytes) {}

  /// When the space is there for what is ready at `time_ps`. Throws Error naming the instruction where it can never be:
  /// what later instructions still read takes too much of it.
  std::int64_t take(std::int64_t time_ps, std::int64_t bytes, const Request& request);
  void give_back(std::int64_t time_ps, std::int64_t bytes);

  /// The smallest buffer that the program so far can do with.
  std::int64_t need_bytes() const { return need_; }

 private:
  using Release = std::pair<std::int64_t, std::int64_t>;  // time, bytes
  std::optional<std::int64_t> bytes_;
  std::int64_t held_ = 0;     // whose end is not known yet
  std::int64_t pending_ = 0;  // given back, and not used again
  std::int64_t need_ = 0;
  std::int64_t floor_ps_ = 0;  // what was given out last began no earlier
  std::priority_queue<Release, std::vector<Release>, std::greater<>> releases_;
};

}  // namespace cimq::compiler::sim
