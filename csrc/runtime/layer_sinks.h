// What becomes of the raw results of crossbar layers while a network runs: kept, or compared with stored ones at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/error.h"
#include "compiler/ir/graph.h"
#include "runtime/steps/step.h"
#include "runtime/tensor.h"

namespace cimq::runtime {

/// Takes the raw results of the crossbar layers of one chunk, one layer after the other.
class LayerSink {
 public:
  LayerSink() = default;
  LayerSink(const LayerSink&) = delete;
  LayerSink& operator=(const LayerSink&) = delete;
  virtual ~LayerSink() = default;

  /// Where the layer's raw result goes; called before the layer runs.
  virtual RawResult destination(std::size_t layer) = 0;
  /// The layer has run.
  virtual void finished(std::size_t layer) = 0;
};

/// Samples [begin, begin + size) of a call.
struct Chunk {
  std::int64_t begin = 0;
  std::int64_t size = 0;
};

/// Keeps every result.
class KeptLayers final : public LayerSink {
 public:
  KeptLayers(std::vector<LayerOutput>& layers, const Chunk& chunk) : layers_(layers), chunk_(chunk) {}

  RawResult destination(std::size_t layer) override {
    LayerOutput& kept = layers_[layer];
    const std::int64_t offset = chunk_.begin * compiler::elements({kept.shape.begin() + 1, kept.shape.end()});
    return {kept.exact ? kept.integers.data() + offset : nullptr, kept.exact ? nullptr : kept.floats.data() + offset};
  }
  void finished(std::size_t) override {}

 private:
  std::vector<LayerOutput>& layers_;
  Chunk chunk_;
};

/// One stored result and what was found of it so far.
struct Comparison {
  std::string name;
  bool exact = true;
  std::int64_t elements = 0;  ///< per sample
  const std::uint8_t* expected = nullptr;
  std::int64_t compared = 0, different = 0;
  std::int64_t first = std::numeric_limits<std::int64_t>::max();  ///< lowest element that differs
  std::string text;                                               ///< how it differs

  /// Compares the values of a chunk. Not for several threads at once.
  template <typename T>
  void compare(const T* actual, const Chunk& chunk) {
    const std::int64_t begin = chunk.begin * elements;
    for (std::int64_t i = 0; i < chunk.size * elements; ++i) {
      T wanted{};
      std::memcpy(&wanted, expected + static_cast<std::size_t>(begin + i) * sizeof(T), sizeof(T));  // not aligned
      if (wanted == actual[i]) continue;
      ++different;
      if (begin + i >= first) continue;
      first = begin + i;
      text = message("element ", first, ": expected ", wanted, ", got ", actual[i]);
    }
    compared += chunk.size * elements;
  }
};

/// Compares every layer as soon as it is there, and keeps one at a time.
class ComparedLayers final : public LayerSink {
 public:
  ComparedLayers(std::vector<Comparison>& results, std::mutex& guard, const Chunk& chunk)
      : results_(results), guard_(guard), chunk_(chunk) {}

  RawResult destination(std::size_t layer) override {
    const Comparison& result = results_[layer];
    const auto size = static_cast<std::size_t>(chunk_.size * result.elements);
    if (result.exact) {
      integers_ = std::make_unique_for_overwrite<std::int32_t[]>(size);
    } else {
      floats_ = std::make_unique_for_overwrite<float[]>(size);
    }
    return {integers_.get(), floats_.get()};
  }
  void finished(std::size_t layer) override {
    {
      const std::lock_guard lock(guard_);
      Comparison& result = results_[layer];
      result.exact ? result.compare(integers_.get(), chunk_) : result.compare(floats_.get(), chunk_);
    }
    integers_.reset();
    floats_.reset();
  }

 private:
  std::vector<Comparison>& results_;
  std::mutex& guard_;
  Chunk chunk_;
  std::unique_ptr<std::int32_t[]> integers_;
  std::unique_ptr<float[]> floats_;
};

}  // namespace cimq::runtime
