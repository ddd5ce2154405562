#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "common/error.h"
#include "runtime/bundle_fixture.h"
#include "runtime/executor.h"

using cimq::Executor;
using cimq::runtime::LoadOptions;
using cimq::runtime::Tensor;
using namespace cimq::test;
using Catch::Matchers::Contains;

namespace {

int quantized(float x, float scale, int lo, int hi) {
  return std::clamp(static_cast<int>(std::nearbyint(x / scale)), lo, hi);
}

struct Expected {
  std::vector<std::int32_t> conv, fc;
  std::vector<float> output;
};

/// The small network as plain loops over integers, written from its description alone.
Expected small_net_by_hand(const SmallNet& net, const Tensor& x) {
  Expected result;
  for (std::int64_t b = 0; b < x.shape[0]; ++b) {
    const float* image = x.data.data() + b * 40;
    float sum[4][4][5];
    for (int o = 0; o < 4; ++o) {
      for (int oy = 0; oy < 4; ++oy) {
        for (int ox = 0; ox < 5; ++ox) {
          int y = 0;
          for (int ky = 0; ky < 2; ++ky) {
            for (int kx = 0; kx < 3; ++kx) {
              const int iy = oy + ky;  // top padding 0, bottom 1
              const int ix = ox + kx - 1;
              if (iy >= 4 || ix < 0 || ix >= 5) continue;
              const int channel = o / 2;  // two groups of one input channel
              y += quantized(image[channel * 20 + iy * 5 + ix], net.conv_x_scale, -16, 15) *
                   net.conv_weight[static_cast<std::size_t>(o * 6 + ky * 3 + kx)];
            }
          }
          result.conv.push_back(y);
          const float scaled = static_cast<float>(y) * net.conv_multiplier[static_cast<std::size_t>(o)];
          const float conv = scaled + net.conv_bias[static_cast<std::size_t>(o)];
          sum[o][oy][ox] = std::max(conv, 0.0F) + conv;
        }
      }
    }
    int flat[16];
    for (int o = 0; o < 4; ++o) {
      for (int i = 0; i < 4; ++i) {
        const int y = i / 2 * 2;
        const int z = i % 2 * 2;
        const float pooled = std::max({sum[o][y][z], sum[o][y][z + 1], sum[o][y + 1][z], sum[o][y + 1][z + 1]});
        flat[o * 4 + i] = quantized(pooled, net.fc_x_scale, -128, 127);
      }
    }
    for (std::size_t o = 0; o < 3; ++o) {
      int y = 0;
      for (std::size_t i = 0; i < 16; ++i) y += flat[i] * net.fc_weight[o * 16 + i];
      result.fc.push_back(y);
      const float scaled = static_cast<float>(y) * net.fc_multiplier[o];
      result.output.push_back(scaled + net.fc_bias[o]);
    }
  }
  return result;
}

Files with_expected(Files files, const Tensor& x, const Expected& expected) {
  TensorFile tensors;
  tensors.add("input", "F32", x.shape, x.data);
  tensors.add("layer.conv", "I32", {x.shape[0], 4, 4, 5}, expected.conv);
  tensors.add("layer.fc", "I32", {x.shape[0], 3}, expected.fc);
  tensors.add("output", "F32", {x.shape[0], 3}, expected.output);
  files["expected.safetensors"] = tensors.bytes();
  return files;
}

Executor load(const TemporaryFolder& folder, const Files& files, const LoadOptions& options = {}) {
  write_bundle(folder.path(), files);
  return Executor::load(folder.path(), options);
}

/// Replaces text in a file of the bundle (its hash is then recomputed).
Files replaced(Files files, const std::string& name, const std::string& from, const std::string& to) {
  std::string text(files[name].begin(), files[name].end());
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  files[name] = bytes_of(text.replace(at, from.size(), to));
  return files;
}

}  // namespace

TEST_CASE("The executor computes what plain loops compute", "[executor]") {
  const TemporaryFolder folder;
  const SmallNet net;
  const Executor executor = load(folder, small_net_files(net));
  for (const std::int64_t batch : {1, 7}) {
    const Tensor x = small_net_input(batch);
    const Expected expected = small_net_by_hand(net, x);
    const auto result = executor.run_layers(x);
    REQUIRE(result.layers.size() == 2);
    CHECK(result.layers[0].name == "conv");
    CHECK(result.layers[0].exact);
    CHECK(result.layers[0].shape == std::vector<std::int64_t>{batch, 4, 4, 5});
    CHECK(result.layers[0].integers == expected.conv);
    CHECK(result.layers[1].integers == expected.fc);
    CHECK(result.output.shape == std::vector<std::int64_t>{batch, 3});
    CHECK(result.output.data == expected.output);
    CHECK(executor.run(x).data == expected.output);
  }
}

TEST_CASE("An empty batch gives an empty result", "[executor]") {
  const TemporaryFolder folder;
  const auto result = load(folder, small_net_files()).run_layers(small_net_input(0));
  CHECK(result.output.shape == std::vector<std::int64_t>{0, 3});
  CHECK(result.output.data.empty());
  CHECK(result.layers[0].shape == std::vector<std::int64_t>{0, 4, 4, 5});
}

TEST_CASE("The result does not depend on the number of threads", "[executor]") {
  const TemporaryFolder folder;
  cimq::Hardware lossy;
  lossy.adc.bits = 5;
  lossy.cell.programming.model = "gaussian";
  lossy.cell.programming.sigma_levels = 0.3;
  for (const auto& hardware : {cimq::Hardware{}, lossy}) {
    write_bundle(folder.path(), small_net_files({}, hardware));
    for (const std::int64_t batch : {1, 5, 64}) {
      const Tensor x = small_net_input(batch);
      const auto one = Executor::load(folder.path(), {.threads = 1}).run_layers(x);
      for (const int threads : {2, 3, 16}) {
        const auto many = Executor::load(folder.path(), {.threads = threads}).run_layers(x);
        CHECK(many.output.data == one.output.data);
        CHECK(many.layers[0].integers == one.layers[0].integers);
        CHECK(many.layers[0].floats == one.layers[0].floats);
      }
    }
  }
}

TEST_CASE("check compares every layer with the stored results", "[executor]") {
  const TemporaryFolder folder;
  const SmallNet net;
  const Tensor x = small_net_input(3);
  Expected expected = small_net_by_hand(net, x);
  const auto good = load(folder, with_expected(small_net_files(net), x, expected)).check();
  CHECK(good.passed());
  REQUIRE(good.entries.size() == 3);
  CHECK(good.entries[0].name == "conv");
  CHECK(good.entries[0].compared == 240);
  CHECK(good.entries[2].name == "output");

  ++expected.fc[4];
  expected.output[0] = std::nextafter(expected.output[0], 100.0F);
  const auto bad = load(folder, with_expected(small_net_files(net), x, expected)).check();
  CHECK_FALSE(bad.passed());
  CHECK(bad.entries[0].different == 0);
  CHECK(bad.entries[1].different == 1);
  CHECK_THAT(bad.entries[1].first_difference, Contains("element 4"));
  CHECK(bad.entries[2].different == 1);

  CHECK_THROWS_WITH(load(folder, small_net_files(net)).check(), Contains("no expected.safetensors"));
  write_bundle(folder.path(), with_expected(small_net_files(net), x, expected));
  CHECK_THROWS_WITH(Executor::load(folder.path(), {.chip = 1}).check(), Contains("another seed or chip"));
}

TEST_CASE("Chips differ where cells vary, and the same chip is the same", "[executor]") {
  const TemporaryFolder folder;
  cimq::Hardware hardware;
  hardware.cell.programming.model = "gaussian";
  hardware.cell.programming.sigma_levels = 0.5;
  write_bundle(folder.path(), small_net_files({}, hardware));
  const Tensor x = small_net_input(2);
  const auto own = Executor::load(folder.path()).run_layers(x);
  CHECK_FALSE(own.layers[0].exact);
  CHECK(own.layers[0].floats == Executor::load(folder.path(), {.seed = 0, .chip = 0}).run_layers(x).layers[0].floats);
  CHECK(own.layers[0].floats != Executor::load(folder.path(), {.chip = 1}).run_layers(x).layers[0].floats);
  CHECK(own.layers[0].floats != Executor::load(folder.path(), {.seed = 1}).run_layers(x).layers[0].floats);
}

TEST_CASE("Inputs that do not fit are refused", "[executor]") {
  const TemporaryFolder folder;
  const Executor executor = load(folder, small_net_files());
  CHECK_THROWS_WITH(executor.run({{1, 2, 4, 4}, std::vector<float>(32)}), Contains("[1, 2, 4, 5], got [1, 2, 4, 4]"));
  CHECK_THROWS_WITH(executor.run({{}, {1.0F}}), Contains("shape must be"));
  CHECK_THROWS_WITH(executor.run({{1, 2, 4, 5}, std::vector<float>(39)}), Contains("does not fit 39 values"));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Tensor x = small_net_input(1);
    x.data[11] = bad;
    CHECK_THROWS_WITH(executor.run(x), Contains("input: must be finite") && Contains("at element 11"));
  }
}

TEST_CASE("Bundles whose parts do not fit each other are refused", "[executor]") {
  const TemporaryFolder folder;
  const Files files = small_net_files();
  const auto refused = [&](const Files& changed, const char* part) {
    CHECK_THROWS_WITH(load(folder, changed), Contains(part));
  };
  refused(replaced(files, "layers.json", "\"conv.bias\"", "\"conv.x_scale\""), "must have shape [4], got []");
  refused(replaced(files, "layers.json", "\"conv.bias\"", "\"nothing\""), "there is no tensor 'nothing'");
  refused(replaced(files, "layers.json", "\"conv.weight\"", "\"conv.bias\""), "must have shape [4, 1, 2, 3], got [4]");
  SmallNet net;
  net.conv_weight[3] = 8;  // 4 bits: -7..7
  refused(small_net_files(net), "conv");
  net = {};
  net.conv_x_scale = 0.0F;
  refused(small_net_files(net), "x_scale of node 'conv' must be positive");
  net = {};
  net.fc_bias[1] = std::nanf("");
  refused(small_net_files(net), "'fc.bias' of node 'fc' must be finite");
  for (const char* name : {"layers.json", "weights.safetensors", "hardware.json", "policy.json"}) {
    Files without = files;
    without.erase(name);
    refused(without, name);
  }
  refused(replaced(files, "hardware.json", "\"rows\"", "\"row\""), "row");
  CHECK_THROWS_WITH(load(folder, files, {.max_working_bytes = 64}), Contains("more than 64 bytes of working memory"));
  CHECK_THROWS_WITH(load(folder, files, {.threads = -1}), Contains("threads must be"));
}
