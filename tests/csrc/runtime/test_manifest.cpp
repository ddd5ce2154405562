#include <catch2/catch.hpp>

#include "common/error.h"
#include "runtime/bundle_fixture.h"
#include "runtime/manifest.h"

using Catch::Matchers::Contains;
using cimq::runtime::BundleFolder;
using cimq::runtime::parse_manifest;
using cimq::test::TemporaryFolder;
using cimq::test::write_bundle;
using nlohmann::json;

namespace {

json valid_manifest(const std::string& path = "a.txt") {
  return {{"schema", "cimq.bundle"},
          {"version", "1.0.0"},
          {"required_extensions", json::array()},
          {"files", {{{"path", path}, {"bytes", 3}, {"sha256", std::string(64, '0')}, {"media_type", "text/plain"}}}}};
}

void refused(const json& manifest, const char* part) {
  CHECK_THROWS_WITH(parse_manifest(manifest.dump()), Contains(part));
}

/// A bundle of one file whose manifest names it `path`.
void refused_path(const std::filesystem::path& folder, const std::string& path, const char* part) {
  std::ofstream(folder / "manifest.json") << valid_manifest(path).dump();
  INFO(path);
  CHECK_THROWS_WITH(BundleFolder(folder), Contains(part));
}

}  // namespace

TEST_CASE("A manifest lists files with sizes and hashes", "[manifest]") {
  const auto manifest = parse_manifest(valid_manifest().dump());
  REQUIRE(manifest.files.size() == 1);
  CHECK(manifest.files.at("a.txt").bytes == 3);
  auto newer = valid_manifest();
  newer["version"] = "1.9.2";
  newer["added_later"] = 1;
  CHECK(parse_manifest(newer.dump()).version == "1.9.2");
}

TEST_CASE("Manifests that this reader must not accept are refused", "[manifest]") {
  const auto with = [](const char* key, const json& value) {
    auto manifest = valid_manifest();
    manifest[key] = value;
    return manifest;
  };
  refused(with("schema", "other"), "schema must be 'cimq.bundle'");
  refused(with("version", "2.0.0"), "version 2.0.0 cannot be read");
  refused(with("version", "0.9.0"), "cannot be read");
  for (const char* version : {"1", "1.0", "1.0.0.0", "1.0.x", "", "-1.0.0", "1.-1.0", "1.0.0 "}) {
    refused(with("version", version), "must look like 1.0.0");
  }
  refused(with("required_extensions", json::array({"holography"})), "requires the extension 'holography'");
  refused(with("required_extensions", "none"), "must be an array");
  refused(with("files", 3), "files must be an array");
  auto manifest = valid_manifest();
  manifest["files"][0]["sha256"] = "ABC";
  refused(manifest, "64 lower-case hexadecimal");
  manifest = valid_manifest();
  manifest["files"][0]["bytes"] = -1;
  refused(manifest, "bytes must be an integer");
  manifest = valid_manifest();
  manifest["files"].push_back(manifest["files"][0]);
  refused(manifest, "listed twice");
  refused(valid_manifest("manifest.json"), "cannot list itself");
  CHECK_THROWS_WITH(parse_manifest(R"({"schema":"cimq.bundle","schema":"cimq.bundle"})"), Contains("given twice"));
  CHECK_THROWS_WITH(parse_manifest(std::string(100, '[')), Contains("nested deeper"));
  CHECK_THROWS_WITH(parse_manifest("\xff"), Contains("not valid JSON"));
}

TEST_CASE("Paths never leave the bundle", "[manifest]") {
  const TemporaryFolder outer;
  const auto folder = outer.path() / "b.cimq";
  write_bundle(folder, {{"a.txt", cimq::test::bytes_of("abc")}});
  std::ofstream(outer.path() / "secret.txt") << "abc";
  CHECK(BundleFolder(folder).read_text("a.txt") == "abc");
  for (const char* path : {"../secret.txt", "x/../../secret.txt", "./a.txt", "x//a.txt", "..", "."}) {
    refused_path(folder, path, "must stay inside the bundle");
  }
  refused_path(folder, (outer.path() / "secret.txt").string(), "must be relative");
  refused_path(folder, "", "must be relative");
  refused_path(folder, "..\\secret.txt", "must use plain names");
  refused_path(folder, "C:secret.txt", "must use plain names");
  refused_path(folder, "a.txt/", "must name a file");
  refused_path(folder, "none.txt", "'none.txt' is missing");
  std::filesystem::create_symlink(outer.path() / "secret.txt", folder / "link.txt");
  refused_path(folder, "link.txt", "link that leads out");
  std::filesystem::create_directory_symlink(outer.path(), folder / "up");
  refused_path(folder, "up/secret.txt", "link that leads out");
  std::filesystem::create_directory(folder / "sub");
  refused_path(folder, "sub", "must be a regular file");
}

TEST_CASE("A file that differs from its manifest is refused", "[manifest]") {
  const TemporaryFolder outer;
  const auto folder = outer.path() / "b.cimq";
  write_bundle(folder, {{"a.txt", cimq::test::bytes_of("abc")}});
  std::ofstream(folder / "a.txt") << "abd";
  CHECK_THROWS_WITH(BundleFolder(folder), Contains("a.txt: SHA-256 is"));
  std::ofstream(folder / "a.txt") << "ab";
  CHECK_THROWS_WITH(BundleFolder(folder), Contains("a.txt: has 2 bytes, manifest.json says 3"));
  std::filesystem::remove(folder / "a.txt");
  CHECK_THROWS_WITH(BundleFolder(folder), Contains("'a.txt' is missing"));
  std::filesystem::remove(folder / "manifest.json");
  CHECK_THROWS_WITH(BundleFolder(folder), Contains("'manifest.json' is missing"));
  CHECK_THROWS_WITH(BundleFolder(outer.path() / "none"), Contains("must be a bundle folder"));
}
