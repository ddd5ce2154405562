// Where the files of a bundle come from: a folder whose manifest was verified (runtime/manifest.h), or whatever else
// holds them, e.g. the flash memory of a device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cimq::runtime {

/// Files that belong together. Whoever implements this answers for their integrity; everything that they say is checked
/// by those who read them.
class BundleFiles {
 public:
  BundleFiles() = default;
  BundleFiles(const BundleFiles&) = default;
  BundleFiles& operator=(const BundleFiles&) = default;
  BundleFiles(BundleFiles&&) = default;
  BundleFiles& operator=(BundleFiles&&) = default;
  virtual ~BundleFiles() = default;

  virtual bool contains(const std::string& name) const = 0;
  /// Bytes of a file, 0 where there is none.
  virtual std::uint64_t size_of(const std::string& name) const = 0;
  /// Throws Error if there is none.
  virtual std::vector<std::uint8_t> read(const std::string& name) const = 0;

  /// The same as text, which may have kMaxText bytes.
  std::string read_text(const std::string& name) const;
  /// More than a program of kMaxTiles tiles takes, the largest of the JSON files.
  static constexpr std::uint64_t kMaxText = std::uint64_t{1} << 29U;
};

}  // namespace cimq::runtime
