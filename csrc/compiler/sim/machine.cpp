#include "compiler/sim/machine.h"

#include <algorithm>

#include "common/error.h"

namespace cimq::compiler::sim {

Moment WritePorts::begin(const Moment& at) {
  if (!unused_) return at;
  if (*unused_ > 0) {
    --*unused_;
    return at;
  }
  const Moment free = busy_.top();
  busy_.pop();
  return later(at, free);
}

void WritePorts::end(const Moment& at) {
  if (unused_) busy_.push(at);
}

std::int64_t Buffer::take(std::int64_t time_ps, std::int64_t bytes, const Request& request) {
  held_ += bytes;
  need_ = std::max(need_, held_);
  if (!bytes_) return time_ps;
  check(held_ <= *bytes_, line_of(request.instruction), ": ", request.op, " needs ", bytes, " bytes for ", request.what,
        " of layer '", request.layer, "', but resources.buffer_bytes is ", *bytes_, " and ", held_ - bytes,
        " bytes hold what later instructions still use: the program needs at least ", held_, " bytes");
  while (held_ + pending_ > *bytes_) {
    const auto [free_ps, freed] = releases_.top();
    releases_.pop();
    pending_ -= freed;
    floor_ps_ = std::max(floor_ps_, free_ps);
  }
  return std::max(time_ps, floor_ps_);
}

void Buffer::give_back(std::int64_t time_ps, std::int64_t bytes) {
  held_ -= bytes;
  if (!bytes_) return;
  pending_ += bytes;
  releases_.emplace(time_ps, bytes);
}

}  // namespace cimq::compiler::sim
