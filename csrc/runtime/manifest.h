// manifest.json: what a bundle holds. The reader trusts a file only after its size and hash agree.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/bundle_files.h"

namespace cimq::runtime {

struct ManifestFile {
  std::uint64_t bytes = 0;
  std::string sha256;
  std::string media_type;
};

struct Manifest {
  std::string version;
  std::map<std::string, ManifestFile> files;  ///< by path relative to the bundle
};

/// Parses the text of a manifest. Throws Error for another schema or major version, a required extension (this reader
/// knows none), a path given twice or out of the bundle, a malformed hash.
Manifest parse_manifest(std::string_view text);

/// A bundle folder whose every listed file exists, lies inside the folder, and has the stated size and hash.
class BundleFolder final : public BundleFiles {
 public:
  /// Reads the manifest and verifies every file. Throws Error naming the file.
  explicit BundleFolder(const std::filesystem::path& folder);

  bool contains(const std::string& name) const override;
  std::uint64_t size_of(const std::string& name) const override;
  /// The bytes of a listed file, hashed again after reading; "manifest.json" gives the text that was verified. Throws
  /// Error if it is not listed.
  std::vector<std::uint8_t> read(const std::string& name) const override;

 private:
  void verify(const std::string& name) const;

  std::filesystem::path folder_;
  std::string text_;
  Manifest manifest_;
};

}  // namespace cimq::runtime
