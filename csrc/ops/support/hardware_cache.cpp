#include "ops/support/hardware_cache.h"

#include <functional>
#include <mutex>

#include "common/lru_entries.h"
#include "ops/support/caches.h"

namespace cimq::ops {
namespace {

struct ParsedHardware {
  std::string json;
  std::shared_ptr<const Hardware> hardware;
};

constexpr std::size_t kMaxEntries = 256;  // a search over hardware must not grow without bound
constexpr std::size_t kMaxBytes = std::size_t{32} << 20;

class HardwareCache : public LockedEntries<ParsedHardware> {
 public:
  HardwareCache() : LockedEntries({kMaxBytes, kMaxEntries}) {}

  std::shared_ptr<const Hardware> get(const std::string& json) {
    const std::size_t hash = std::hash<std::string>()(json);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto same = [&](const ParsedHardware& entry) { return entry.json == json; };
    if (const ParsedHardware* entry = entries_.find(hash, same)) return entry->hardware;
    auto hardware = std::make_shared<const Hardware>(Hardware::from_json(json));
    entries_.add(hash, {json, hardware}, json.size());
    return hardware;
  }
};

}  // namespace

std::shared_ptr<const Hardware> cached_hardware(const std::string& json) {
  static HardwareCache& cache = listed_cache<HardwareCache>("hardware");
  return cache.get(json);
}

}  // namespace cimq::ops
