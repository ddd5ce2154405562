#include "ops/hardware_cache.h"

#include <mutex>
#include <unordered_map>

namespace cimq::ops {

std::shared_ptr<const Hardware> cached_hardware(const std::string& json) {
  constexpr std::size_t kMaxEntries = 256;  // a search over hardware must not grow without bound
  static std::mutex mutex;
  static std::unordered_map<std::string, std::shared_ptr<const Hardware>> parsed;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = parsed.find(json);
  if (found != parsed.end()) return found->second;
  auto hardware = std::make_shared<const Hardware>(Hardware::from_json(json));
  if (parsed.size() >= kMaxEntries) parsed.clear();
  parsed.emplace(json, hardware);
  return hardware;
}

}  // namespace cimq::ops
