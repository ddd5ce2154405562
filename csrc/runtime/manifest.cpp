#include "runtime/manifest.h"

#include <algorithm>
#include <array>
#include <fstream>

#include "compiler/frontends/strict_json.h"
#include "runtime/file.h"
#include "runtime/sha256.h"

namespace cimq::runtime {
namespace {

namespace fs = std::filesystem;
constexpr const char* kManifest = "manifest.json";
constexpr std::uint64_t kMaxManifest = std::uint64_t{1} << 22;
constexpr std::size_t kMaxFiles = 1024;
constexpr std::int64_t kMaxFile = std::int64_t{1} << 40;
constexpr int kMajor = 1;

bool is_sha256(const std::string& text) {
  return text.size() == 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

void check_hash(const std::string& actual, const ManifestFile& file, const std::string& name) {
  check(actual == file.sha256, name, ": SHA-256 is ", actual, ", manifest.json says ", file.sha256,
        " (the file was changed or damaged)");
}

}  // namespace

Manifest parse_manifest(std::string_view text) {
  const nlohmann::json json = compiler::parse_strict(text, "manifest.json");
  compiler::ObjectReader reader(json, "manifest.json");
  compiler::check_schema(reader, "cimq.bundle", kMajor);
  for (const std::string& extension : reader.texts("required_extensions", kMaxFiles)) {
    throw Error(message("manifest.json: the bundle requires the extension '", compiler::shown(extension),
                        "', which this reader does not know"));
  }
  Manifest manifest;
  manifest.version = reader.text("version", 64);
  for (const auto& entry : reader.array("files", kMaxFiles)) {
    compiler::ObjectReader fields(entry, "manifest.json: files");
    const std::string path = fields.text("path");
    ManifestFile file;
    file.bytes = static_cast<std::uint64_t>(fields.integer("bytes", 0, kMaxFile));
    file.sha256 = fields.text("sha256");
    file.media_type = fields.text("media_type");
    check(is_sha256(file.sha256), "manifest.json: sha256 of '", compiler::shown(path),
          "' must be 64 lower-case hexadecimal digits");
    check(path != "manifest.json", "manifest.json: it cannot list itself");
    check(manifest.files.emplace(path, file).second, "manifest.json: the file '", compiler::shown(path),
          "' is listed twice");
  }
  return manifest;
}

BundleFolder::BundleFolder(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  check(fs::is_directory(folder, error), folder.string(), ": must be a bundle folder");
  const auto bytes = read_file(path_inside(folder, "manifest.json"), kMaxManifest);
  text_.assign(bytes.begin(), bytes.end());
  manifest_ = parse_manifest(text_);
  for (const auto& [name, file] : manifest_.files) verify(name);
}

void BundleFolder::verify(const std::string& name) const {
  const ManifestFile& file = manifest_.files.at(name);
  const fs::path path = path_inside(folder_, name);
  const std::string shown = compiler::shown(name);
  std::error_code error;
  check(fs::is_regular_file(path, error), shown, ": must be a regular file");
  const std::uint64_t size = fs::file_size(path, error);
  check(!error && size == file.bytes, shown, ": has ", size, " bytes, manifest.json says ", file.bytes,
        " (the bundle is incomplete or was changed)");
  std::ifstream stream(path, std::ios::binary);
  check(stream.is_open(), shown, ": cannot be opened");
  Sha256 hash;
  std::array<char, 1 << 16> block;
  std::uint64_t left = size;  // never more than stated: the file may grow while it is read
  while (left > 0) {
    stream.read(block.data(), static_cast<std::streamsize>(std::min<std::uint64_t>(left, block.size())));
    const auto got = static_cast<std::size_t>(stream.gcount());
    check(got > 0, shown, ": ends before its ", file.bytes, " bytes");
    hash.update({reinterpret_cast<const std::uint8_t*>(block.data()), got});
    left -= got;
  }
  check_hash(hash.hex(), file, shown);
}

bool BundleFolder::contains(const std::string& name) const {
  return name == kManifest || manifest_.files.contains(name);
}

std::uint64_t BundleFolder::size_of(const std::string& name) const {
  if (name == kManifest) return text_.size();
  const auto found = manifest_.files.find(name);
  return found == manifest_.files.end() ? 0 : found->second.bytes;
}

std::vector<std::uint8_t> BundleFolder::read(const std::string& name) const {
  if (name == kManifest) return {text_.begin(), text_.end()};
  const auto found = manifest_.files.find(name);
  check(found != manifest_.files.end(), "manifest.json: the bundle lists no file '", compiler::shown(name), "'");
  auto bytes = read_file(path_inside(folder_, name), found->second.bytes);
  check_hash(sha256_hex(bytes), found->second, name);
  return bytes;
}

}  // namespace cimq::runtime
