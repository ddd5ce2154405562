#include "ops/support/notices.h"

#include <iostream>
#include <mutex>
#include <utility>

namespace cimq::ops {
namespace {

struct Listener {
  std::mutex mutex;
  std::function<void(const std::string&)> call;
};

Listener& listener() {
  static auto* only = new Listener;  // threads may outlive static destructors
  return *only;
}

}  // namespace

void on_notice(std::function<void(const std::string&)> call) {
  const std::lock_guard<std::mutex> lock(listener().mutex);
  listener().call = std::move(call);
}

void notice(const std::string& text) {
  std::function<void(const std::string&)> call;
  {
    const std::lock_guard<std::mutex> lock(listener().mutex);
    call = listener().call;
  }
  if (call) {
    call(text);
  } else {
    std::cerr << "cimq: " << text << '\n';
  }
}

}  // namespace cimq::ops
