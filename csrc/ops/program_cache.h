// Programmed crossbars that were used lately. An entry is found by everything that determines it, the weights included,
// compared byte by byte: neither re-used memory nor an in-place change can bring back the wrong cells. The comparison
// reads the weights once, which is little beside one product with them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>

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
  /// Of all bytes but the weights, and some of those: equal hashes are followed by a comparison of everything.
  std::size_t hash() const {
    constexpr std::size_t kEnd = 4096;
    const std::hash<std::string_view> of;
    const std::size_t ends =
        of(weights_.substr(0, kEnd)) * 31U + of(weights_.substr(weights_.size() - std::min(weights_.size(), kEnd)));
    return of(bytes_) * 31U + ends;
  }

 private:
  std::string bytes_;
  std::string_view weights_;
};

/// Least recently used entries are dropped when the programs and their keys take more than `max_bytes`.
template <typename Program>
class ProgramCache {
 public:
  explicit ProgramCache(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  template <typename Make>
  std::shared_ptr<const Program> get(const ProgramKey& key, const Make& make) {
    const std::size_t hash = key.hash();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
        if (entry->hash != hash || entry->key != key.bytes() || entry->weights != key.weights()) continue;
        entries_.splice(entries_.begin(), entries_, entry);
        return entry->program;
      }
    }
    std::shared_ptr<const Program> program = make();  // outside the lock: programming takes a while
    const std::size_t bytes =
        key.bytes().size() + key.weights().size() + static_cast<std::size_t>(program->packed_bytes());
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.push_front({hash, key.bytes(), std::string(key.weights()), program, bytes});
    total_bytes_ += bytes;
    while (total_bytes_ > max_bytes_ && !entries_.empty()) {
      total_bytes_ -= entries_.back().bytes;
      entries_.pop_back();
    }
    return program;
  }

 private:
  struct Entry {
    std::size_t hash;
    std::string key;
    std::string weights;
    std::shared_ptr<const Program> program;
    std::size_t bytes;
  };

  std::mutex mutex_;
  std::list<Entry> entries_;
  std::size_t total_bytes_ = 0;
  std::size_t max_bytes_;
};

}  // namespace cimq::ops
