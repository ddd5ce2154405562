// Programmed crossbars that were used lately. An entry is found by everything that determines it, the weights included,
// compared byte by byte: neither re-used memory nor an in-place change can bring back the wrong cells. The comparison
// reads the weights once, which is little beside one product with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/lru_entries.h"
#include "ops/support/caches.h"

namespace cimq::ops {

/// Bytes that determine a program. The weights are not copied: they must outlive the key.
class ProgramKey {
 public:
  template <typename T>
  void add(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void add_bytes(const void* data, std::size_t count) {
    add(count);
    bytes_.append(static_cast<const char*>(data), count);
  }
  void set_weights(const std::int8_t* weights, std::size_t count) {
    weights_ = {reinterpret_cast<const char*>(weights), count};
  }
  const std::string& bytes() const { return bytes_; }
  std::string_view weights() const { return weights_; }
  std::size_t hash() const { return std::hash<std::string_view>()(bytes_) * 31U + hash_of(weights_); }

  /// Of large weights only samples are read, as a hash of everything would take longer than a product with them: what
  /// has equal hashes is compared byte by byte.
  static std::size_t hash_of(std::string_view weights) {
    constexpr std::size_t kWhole = std::size_t{1} << 16;
    constexpr std::size_t kSample = 64;
    const std::hash<std::string_view> of;
    if (weights.size() <= kWhole) return of(weights);
    std::size_t hash = weights.size();
    const std::size_t step = weights.size() / (kWhole / kSample);
    for (std::size_t at = 0; at < weights.size(); at += step) hash = hash * 31U + of(weights.substr(at, kSample));
    return hash * 31U + of(weights.substr(weights.size() - kSample));
  }

 private:
  std::string bytes_;
  std::string_view weights_;
};

template <typename Program>
struct CachedProgram {
  std::string key;
  std::string weights;
  std::shared_ptr<const Program> program;
};

/// Programs by their keys; the least recently used are dropped. Thread-safe.
template <typename Program>
class ProgramCache : public LockedEntries<std::shared_ptr<const CachedProgram<Program>>> {
 public:
  using Entry = CachedProgram<Program>;
  using Shared = std::shared_ptr<const Entry>;

  explicit ProgramCache(CacheLimits limits) : LockedEntries<Shared>(limits) {}

  /// make(weights) programs the cells, from a copy of the weights that is kept beside them: an entry stays true to its
  /// key whatever happens to the caller's memory meanwhile.
  template <typename Make>
  std::shared_ptr<const Program> get(const ProgramKey& key, const Make& make) {
    const auto same = [&](const Entry& entry) { return entry.key == key.bytes() && entry.weights == key.weights(); };
    const std::size_t hash = key.hash();
    // Large weights take a while to compare and to program: threads do neither while others wait.
    for (const Shared& found : with_hash(hash)) {
      if (!same(*found)) continue;
      const std::lock_guard<std::mutex> lock(mutex_);
      entries_.find(hash, [&](const Shared& entry) { return entry == found; });  // now the last to be dropped
      return found->program;
    }
    auto entry = std::make_shared<Entry>(Entry{key.bytes(), std::string(key.weights()), nullptr});
    entry->program = make(reinterpret_cast<const std::int8_t*>(entry->weights.data()));
    const std::size_t bytes = entry->key.size() + entry->weights.size() +
                              static_cast<std::size_t>(entry->program->packed_bytes()) + kEntryBytes;
    const std::lock_guard<std::mutex> lock(mutex_);
    // Another thread may have been quicker.
    if (const Shared* other = entries_.find(hash, [&](const Shared& e) { return same(*e); })) return (*other)->program;
    entries_.add(hash, entry, bytes);
    return entry->program;
  }

 private:
  static constexpr std::size_t kEntryBytes = 1024;  // of the list, the index and a plan

  std::vector<Shared> with_hash(std::size_t hash) const {
    std::vector<Shared> found;
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.visit(hash, [&](const Shared& entry) { found.push_back(entry); });
    return found;
  }

  using LockedEntries<Shared>::entries_;
  using LockedEntries<Shared>::mutex_;
};

}  // namespace cimq::ops
