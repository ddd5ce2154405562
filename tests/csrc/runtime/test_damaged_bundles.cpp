// Damage of every kind to a bundle is an error or harmless, never a crash. Meant to run under ASan and UBSan too.
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/frontends/layers_json.h"
#include "runtime/bundle_fixture.h"
#include "runtime/executor.h"
#include "runtime/manifest.h"

using cimq::Executor;
using namespace cimq::test;

namespace {

/// Loads and runs; an Error is fine, any other exception or a signal is not. Returns whether it ran.
bool survives(const std::filesystem::path& folder) {
  try {
    const auto executor = Executor::load(folder, {.threads = 1, .max_working_bytes = 1 << 20});
    cimq::runtime::Tensor x{executor.graph().input_shape, {}};
    x.shape.insert(x.shape.begin(), 1);
    x.data.resize(static_cast<std::size_t>(cimq::compiler::elements(executor.graph().input_shape)), 0.5F);
    executor.run(x);
    return true;
  } catch (const cimq::Error&) {
    return false;
  }
}

void write(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

std::vector<std::uint8_t> read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("Every truncation of every file of a bundle is refused", "[damage]") {
  const TemporaryFolder folder;
  write_bundle(folder.path(), small_net_files());
  REQUIRE(survives(folder.path()));
  for (const char* name : {"manifest.json", "layers.json", "hardware.json", "weights.safetensors"}) {
    const auto whole = read(folder.path() / name);
    for (std::size_t length = 0; length < whole.size(); ++length) {
      write(folder.path() / name, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)});
      INFO(name << " cut to " << length);
      CHECK_FALSE(survives(folder.path()));
    }
    write(folder.path() / name, whole);
  }
}

TEST_CASE("Every truncation is refused even where the manifest agrees with it", "[damage]") {
  const TemporaryFolder folder;
  const Files files = small_net_files();
  for (const char* name : {"layers.json", "weights.safetensors"}) {
    for (std::size_t length = 0; length < files.at(name).size(); length += 3) {
      Files cut = files;
      cut[name].resize(length);
      write_bundle(folder.path(), cut);
      INFO(name << " cut to " << length);
      CHECK_FALSE(survives(folder.path()));
    }
  }
}

TEST_CASE("A flipped byte is caught by the hash", "[damage]") {
  const TemporaryFolder folder;
  write_bundle(folder.path(), small_net_files());
  std::mt19937 random(1 + Catch::rngSeed());
  for (const char* name : {"layers.json", "hardware.json", "weights.safetensors"}) {
    const auto whole = read(folder.path() / name);
    for (int i = 0; i < 100; ++i) {
      auto damaged = whole;
      damaged[random() % damaged.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
      write(folder.path() / name, damaged);
      CHECK_FALSE(survives(folder.path()));
    }
    write(folder.path() / name, whole);
  }
}

TEST_CASE("Flipped bytes under a fitting hash never crash", "[damage]") {
  const TemporaryFolder folder;
  const Files files = small_net_files();
  std::mt19937 random(2 + Catch::rngSeed());
  int refused = 0;
  for (int i = 0; i < 1500; ++i) {
    Files damaged = files;
    auto& bytes = damaged[i % 3 == 0 ? "weights.safetensors" : i % 3 == 1 ? "layers.json" : "hardware.json"];
    const int flips = 1 + static_cast<int>(random() % 3);
    for (int flip = 0; flip < flips; ++flip) {
      bytes[random() % bytes.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
    }
    write_bundle(folder.path(), damaged);
    refused += survives(folder.path()) ? 0 : 1;
  }
  CHECK(refused > 700);  // most damage is seen; a changed weight cannot be
}

TEST_CASE("Values of layers.json replaced by hostile ones never crash", "[damage]") {
  const TemporaryFolder folder;
  const Files files = small_net_files();
  const json flat = layers_of_small_net().flatten();
  const std::vector<json> hostile = {nullptr,
                                     -1,
                                     0,
                                     1,
                                     255,
                                     INT64_MAX,
                                     INT64_MIN,
                                     UINT64_MAX,
                                     1e308,
                                     0.5,
                                     "",
                                     "conv",
                                     "x",
                                     true,
                                     json::array(),
                                     json::object(),
                                     json::array({1, 2, 3, 4, 5, 6, 7, 8, 9})};
  for (const auto& [pointer, original] : flat.items()) {
    for (const json& value : hostile) {
      json changed = layers_of_small_net();
      changed[json::json_pointer(pointer)] = value;
      Files damaged = files;
      damaged["layers.json"] = bytes_of(changed.dump());
      write_bundle(folder.path(), damaged);
      INFO(pointer << " = " << value.dump());
      CHECK_NOTHROW(survives(folder.path()));
    }
  }
}

TEST_CASE("Random manifests and random layers.json never crash the parsers", "[damage]") {
  std::mt19937 random(3 + Catch::rngSeed());
  const std::string alphabet = "{}[]\",:0123456789eE+-.truefalsn\\u \xff\x01";
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    const auto length = random() % 60;
    for (unsigned k = 0; k < length; ++k) text += alphabet[random() % alphabet.size()];
    CHECK_THROWS_AS(cimq::runtime::parse_manifest(text), cimq::Error);
    CHECK_THROWS_AS(cimq::compiler::read_layers(text), cimq::Error);
  }
}
