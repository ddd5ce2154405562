// What operators remember from call to call, in one list, so that all of it can be forgotten.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "common/lru_entries.h"

namespace cimq::ops {

struct CacheUsage {
  std::size_t entries = 0;
  std::size_t bytes = 0;  ///< 0 where entries alone are bounded
};

/// Puts a cache that lives as long as the process on the list. Thread-safe, as are the functions below.
void list_cache(const std::string& name, std::function<void()> clear, std::function<CacheUsage()> usage);

/// Empties every cache. Operators that run meanwhile keep what they use.
void clear_caches();

struct NamedUsage {
  std::string name;
  CacheUsage usage;
};
/// What every cache holds, in the order of their names.
std::vector<NamedUsage> cache_usage();

/// What the caches on the list have in common: entries behind a lock.
template <typename Entry>
class LockedEntries {
 public:
  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.clear();
  }

  CacheUsage usage() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {entries_.size(), entries_.bytes()};
  }

 protected:
  explicit LockedEntries(CacheLimits limits) : entries_(limits) {}
  ~LockedEntries() = default;

  mutable std::mutex mutex_;
  LruEntries<Entry> entries_;
};

/// A cache that is made at its first use, listed, and never destroyed: threads may outlive static destructors.
template <typename Cache, typename... Arguments>
Cache& listed_cache(const std::string& name, Arguments... arguments) {
  auto* cache = new Cache(arguments...);
  list_cache(name, [cache] { cache->clear(); }, [cache] { return cache->usage(); });
  return *cache;
}

}  // namespace cimq::ops
