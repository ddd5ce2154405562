// The list and the index of a cache: entries found by a hash and a comparison, the least recently used dropped first.
#pragma once

#include <cstddef>
#include <iterator>
#include <list>
#include <unordered_map>
#include <utility>

namespace cimq {

struct CacheLimits {
  std::size_t bytes;
  std::size_t entries;
};

/// Looking up, adding and dropping take constant time. Not thread-safe: the owner locks.
template <typename Entry>
class LruEntries {
 public:
  explicit LruEntries(CacheLimits limits) : limits_(limits) {}

  /// The entry of this hash for which `same(entry)`, now the last to be dropped; null where there is none. Entries of
  /// equal hashes are compared one by one, of which at most kEqualHashes are kept.
  template <typename Same>
  Entry* find(std::size_t hash, const Same& same) {
    const auto [begin, end] = index_.equal_range(hash);
    for (auto at = begin; at != end; ++at) {
      if (!same(at->second->entry)) continue;
      nodes_.splice(nodes_.begin(), nodes_, at->second);
      return &at->second->entry;
    }
    return nullptr;
  }

  /// Calls visit(entry) with each of this hash, at most kEqualHashes; their order of dropping stays.
  template <typename Visit>
  void visit(std::size_t hash, const Visit& visit) const {
    const auto [begin, end] = index_.equal_range(hash);
    for (auto at = begin; at != end; ++at) visit(at->second->entry);
  }

  /// Adds an entry that takes `bytes`; one beyond the limits by itself is not kept, and drops no other.
  void add(std::size_t hash, Entry entry, std::size_t bytes) {
    if (bytes > limits_.bytes || limits_.entries == 0) return;
    const auto [begin, end] = index_.equal_range(hash);
    if (static_cast<std::size_t>(std::distance(begin, end)) >= kEqualHashes) drop(begin->second);
    nodes_.push_front({hash, bytes, std::move(entry)});
    bytes_ += bytes;  // before what may throw: a node without an index is never found, and dropped in its turn
    index_.emplace(hash, nodes_.begin());
    while (bytes_ > limits_.bytes || nodes_.size() > limits_.entries) drop(std::prev(nodes_.end()));
  }

  void clear() {
    index_.clear();
    nodes_.clear();
    bytes_ = 0;
  }

  std::size_t size() const { return nodes_.size(); }
  std::size_t bytes() const { return bytes_; }

  static constexpr std::size_t kEqualHashes = 8;

 private:
  struct Node {
    std::size_t hash;
    std::size_t bytes;
    Entry entry;
  };
  using Position = typename std::list<Node>::iterator;

  void drop(Position node) {
    const auto [begin, end] = index_.equal_range(node->hash);
    for (auto at = begin; at != end; ++at) {
      if (at->second != node) continue;
      index_.erase(at);
      break;
    }
    bytes_ -= node->bytes;
    nodes_.erase(node);
  }

  CacheLimits limits_;
  std::list<Node> nodes_;  ///< the most recently used first
  std::unordered_multimap<std::size_t, Position> index_;
  std::size_t bytes_ = 0;
};

}  // namespace cimq
