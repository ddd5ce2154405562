// The bundle that a fuzzer's input stands for: its files one after the other, in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/bundle_files.h"

namespace cimq::testing {

/// Names of the files in an input; byte 0 of every part says which one it is (corpus.py writes the same).
inline const std::vector<std::string> kFuzzedFiles = {"manifest.json",       "hardware.json", "layers.json",
                                                      "policy.json",         "program.jsonl", "weights.safetensors",
                                                      "expected.safetensors"};

class BundleInput final : public runtime::BundleFiles {
 public:
  BundleInput() = default;
  /// Reads parts of (number of the file, 4 bytes little-endian length, content); what does not fit is cut off. Any
  /// bytes are an input.
  BundleInput(const std::uint8_t* data, std::size_t size);

  std::vector<std::uint8_t> packed() const;

  bool contains(const std::string& name) const override { return files.contains(name); }
  std::uint64_t size_of(const std::string& name) const override;
  std::vector<std::uint8_t> read(const std::string& name) const override;

  std::map<std::string, std::vector<std::uint8_t>> files;
};

}  // namespace cimq::testing
