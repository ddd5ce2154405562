#include "ops/support/caches.h"

#include <map>
#include <mutex>
#include <utility>

namespace cimq::ops {
namespace {

struct Listed {
  std::function<void()> clear;
  std::function<CacheUsage()> usage;
};

struct List {
  std::mutex mutex;
  std::map<std::string, Listed> caches;
};

List& list() {
  static auto* all = new List;
  return *all;
}

}  // namespace

void list_cache(const std::string& name, std::function<void()> clear, std::function<CacheUsage()> usage) {
  List& all = list();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.caches[name] = {std::move(clear), std::move(usage)};
}

void clear_caches() {
  List& all = list();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (const auto& [name, cache] : all.caches) cache.clear();
}

std::vector<NamedUsage> cache_usage() {
  List& all = list();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::vector<NamedUsage> found;
  found.reserve(all.caches.size());
  for (const auto& [name, cache] : all.caches) found.push_back({name, cache.usage()});
  return found;
}

}  // namespace cimq::ops
