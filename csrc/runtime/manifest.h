// manifest.json: what a bundle holds. The reader trusts a file only after its size and hash agree.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

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
class BundleFolder {
 public:
  /// Reads the manifest and verifies every file. Throws Error naming the file.
  explicit BundleFolder(const std::filesystem::path& folder);

  const Manifest& manifest() const { return manifest_; }
  /// The text that manifest() was read from.
  const std::string& manifest_text() const { return text_; }
  bool contains(const std::string& name) const { return manifest_.files.contains(name); }
  /// The bytes of a listed file, hashed again after reading. Throws Error if it is not listed.
  std::vector<std::uint8_t> read(const std::string& name) const;
  /// The same as text, which may have kMaxText bytes; "manifest.json" gives manifest_text().
  std::string read_text(const std::string& name) const;

  /// More than a program of kMaxTiles tiles takes, the largest of the JSON files.
  static constexpr std::uint64_t kMaxText = std::uint64_t{1} << 29U;

 private:
  void verify(const std::string& name) const;

  std::filesystem::path folder_;
  std::string text_;
  Manifest manifest_;
};

}  // namespace cimq::runtime
