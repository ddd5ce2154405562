#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "common/lru_entries.h"
#include "ops/support/program_cache.h"

using cimq::CacheLimits;
using cimq::LruEntries;
using cimq::ops::ProgramCache;
using cimq::ops::ProgramKey;

namespace {

struct Program {
  std::vector<std::int8_t> weights;
  std::int64_t packed_bytes() const { return static_cast<std::int64_t>(weights.size()); }
};

std::shared_ptr<const Program> look_up(ProgramCache<Program>& cache, const std::vector<std::int8_t>& weights, int seed,
                                       int* made = nullptr) {
  ProgramKey key;
  key.add(seed);
  key.set_weights(weights.data(), weights.size());
  return cache.get(key, [&](const std::int8_t* bytes) {
    if (made != nullptr) ++*made;
    return std::make_shared<const Program>(Program{{bytes, bytes + weights.size()}});
  });
}

constexpr CacheLimits kPlenty{std::size_t{1} << 30, std::size_t{1} << 20};

}  // namespace

TEST_CASE("programs are found by all bytes of their key", "[cache]") {
  ProgramCache<Program> cache(kPlenty);
  int made = 0;
  std::vector<std::int8_t> weights(100, 1);
  const auto first = look_up(cache, weights, 1, &made);
  CHECK(look_up(cache, weights, 1, &made) == first);
  CHECK(made == 1);
  CHECK(look_up(cache, weights, 2, &made) != first);
  weights[50] = 2;  // in place: the memory is the same, the weights are not
  const auto changed = look_up(cache, weights, 1, &made);
  CHECK(changed != first);
  CHECK(changed->weights[50] == 2);
  CHECK(made == 3);
  CHECK(cache.usage().entries == 3);
  cache.clear();
  CHECK(cache.usage().entries == 0);
  CHECK(cache.usage().bytes == 0);
  CHECK(first->weights[50] == 1);  // who has one keeps it
}

TEST_CASE("weights with equal hashes are told apart, and few are kept", "[cache]") {
  // The hash of large weights reads samples: find a byte that it does not see.
  std::vector<std::int8_t> weights(1 << 20, 0);
  const auto hash = [&] {
    return ProgramKey::hash_of({reinterpret_cast<const char*>(weights.data()), weights.size()});
  };
  const std::size_t of_zeros = hash();
  std::size_t unseen = 0;
  for (std::size_t at = 0; at < weights.size() && unseen == 0; ++at) {
    weights[at] = 1;
    if (hash() == of_zeros) unseen = at;
    weights[at] = 0;
    if (at > 4096) break;
  }
  REQUIRE(unseen > 0);
  ProgramCache<Program> cache(kPlenty);
  for (int round = 0; round < 2; ++round) {
    for (int value = 0; value < 100; ++value) {
      weights[unseen] = static_cast<std::int8_t>(value);
      REQUIRE(look_up(cache, weights, 1)->weights[unseen] == value);
    }
  }
  CHECK(cache.usage().entries == LruEntries<int>::kEqualHashes);
}

TEST_CASE("the least recently used program goes first", "[cache]") {
  ProgramCache<Program> cache({std::size_t{1} << 30, 3});
  int made = 0;
  for (const int seed : {1, 2, 3, 1, 4, 1, 3}) look_up(cache, {1, 2, 3}, seed, &made);
  CHECK(made == 4);
  CHECK(cache.usage().entries == 3);
  look_up(cache, {1, 2, 3}, 2, &made);
  CHECK(made == 5);
}

TEST_CASE("programs are bounded in bytes", "[cache]") {
  ProgramCache<Program> cache({100000, 1000});
  for (int seed = 0; seed < 50; ++seed) look_up(cache, std::vector<std::int8_t>(10000, 1), seed);
  CHECK(cache.usage().bytes <= 100000);
  CHECK(cache.usage().entries == 4);                       // weights, their copy in cells, and 1 KiB
  look_up(cache, std::vector<std::int8_t>(100000, 1), 0);  // too large to be kept: no reason to fail, or to drop others
  CHECK(cache.usage().entries == 4);
}

TEST_CASE("looking up takes the same time in a large cache", "[cache]") {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](int entries) {
    LruEntries<int> cache(kPlenty);
    for (int i = 0; i < entries; ++i) cache.add(static_cast<std::size_t>(i) * 7919U, i, 1);
    const auto start = Clock::now();
    for (int i = 0; i < 20000; ++i) {
      const int wanted = i % entries;
      REQUIRE(cache.find(static_cast<std::size_t>(wanted) * 7919U, [&](int e) { return e == wanted; }) != nullptr);
    }
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  seconds(1000);
  CHECK(seconds(200000) < 20 * seconds(1000) + 0.05);  // a list would take 200 times as long
}

TEST_CASE("threads share a cache of programs", "[cache]") {
  ProgramCache<Program> cache({20000, 8});
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&cache, &wrong, t] {
      for (int i = 0; i < 2000; ++i) {
        const std::vector<std::int8_t> weights(64, static_cast<std::int8_t>((i * 5 + static_cast<int>(t)) % 20));
        if (look_up(cache, weights, 1)->weights != weights) ++wrong[t];
        if (i % 500 == 0) cache.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
  CHECK(cache.usage().entries <= 8);
}
