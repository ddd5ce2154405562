// A small bundle written by hand: convolution (asymmetric padding, groups), ReLU, pooling, residual add, linear.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "common/hardware.h"
#include "runtime/sha256.h"
#include "runtime/tensor.h"

namespace cimq::test {

using nlohmann::json;

/// A folder that is removed at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device device;
    path_ =
        std::filesystem::temp_directory_path() / ("cimq-test-" + std::to_string(device()) + std::to_string(device()));
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

/// Collects tensors and writes them as a safetensors file.
class TensorFile {
 public:
  template <typename T>
  void add(const std::string& name, const char* dtype, const std::vector<std::int64_t>& shape,
           const std::vector<T>& values) {
    const std::size_t begin = data_.size();
    data_.resize(begin + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(data_.data() + begin, values.data(), values.size() * sizeof(T));
    header_[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, data_.size()}}};
  }
  std::vector<std::uint8_t> bytes() const {
    const std::string header = header_.dump();
    const std::uint64_t size = header.size();
    std::vector<std::uint8_t> file(8 + header.size() + data_.size());
    std::memcpy(file.data(), &size, 8);
    std::copy(header.begin(), header.end(), file.begin() + 8);
    std::copy(data_.begin(), data_.end(), file.begin() + 8 + static_cast<std::ptrdiff_t>(header.size()));
    return file;
  }

 private:
  json header_ = json::object();
  std::vector<std::uint8_t> data_;
};

using Files = std::map<std::string, std::vector<std::uint8_t>>;

/// Writes the files and a manifest that fits them.
inline void write_bundle(const std::filesystem::path& folder, const Files& files) {
  std::filesystem::create_directories(folder);
  json manifest = {{"schema", "cimq.bundle"}, {"version", "1.0.0"}, {"required_extensions", json::array()}};
  manifest["files"] = json::array();
  for (const auto& [name, bytes] : files) {
    std::ofstream(folder / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    manifest["files"].push_back({{"path", name},
                                 {"bytes", bytes.size()},
                                 {"sha256", runtime::sha256_hex(bytes)},
                                 {"media_type", "application/octet-stream"}});
  }
  std::ofstream(folder / "manifest.json") << manifest.dump();
}

/// Deterministic values in [lo, hi].
inline std::vector<std::int8_t> pattern(std::size_t count, int lo, int hi, unsigned step = 7) {
  std::vector<std::int8_t> values(count);
  const int span = hi - lo + 1;
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = static_cast<std::int8_t>(lo + static_cast<int>((i * step + i / 3) % static_cast<unsigned>(span)));
  }
  return values;
}

inline json layers_of_small_net() {
  const json none = json::object();
  const auto crossbar = [](json node, const char* layer, int index, int w, int a, bool is_signed, json facts) {
    node["layer_name"] = layer;
    node["layer_index"] = index;
    node["weight_bits"] = w;
    node["act_bits"] = a;
    node["act_signed"] = is_signed;
    node.update(facts);
    const std::string name = node["name"];
    node["tensors"] = {{"weight", name + ".weight"},
                       {"x_scale", name + ".x_scale"},
                       {"multiplier", name + ".multiplier"},
                       {"bias", name + ".bias"}};
    return node;
  };
  json nodes = json::array();
  nodes.push_back(crossbar(
      {{"name", "conv"},
       {"op", "crossbar_conv2d"},
       {"inputs", {"x"}},
       {"shape", {4, 4, 5}},
       {"attrs",
        {{"kernel", {2, 3}}, {"stride", {1, 1}}, {"padding", {1, 1, 0, 1}}, {"dilation", {1, 1}}, {"groups", 2}}}},
      "conv", 0, 4, 5, true, {{"outputs", 2}, {"inputs_per_output", 6}, {"invocations", 20}, {"repeats", 2}}));
  nodes.push_back({{"name", "relu"},
                   {"op", "relu"},
                   {"inputs", {"conv"}},
                   {"shape", {4, 4, 5}},
                   {"attrs", none},
                   {"tensors", none}});
  nodes.push_back({{"name", "sum"},
                   {"op", "add"},
                   {"inputs", {"relu", "conv"}},
                   {"shape", {4, 4, 5}},
                   {"attrs", none},
                   {"tensors", none}});
  nodes.push_back({{"name", "pool"},
                   {"op", "max_pool2d"},
                   {"inputs", {"sum"}},
                   {"shape", {4, 2, 2}},
                   {"attrs", {{"kernel", {2, 2}}, {"stride", {2, 2}}, {"padding", {0, 0}}, {"dilation", {1, 1}}}},
                   {"tensors", none}});
  nodes.push_back(
      {{"name", "flat"}, {"op", "flatten"}, {"inputs", {"pool"}}, {"shape", {16}}, {"attrs", none}, {"tensors", none}});
  nodes.push_back(
      crossbar({{"name", "fc"}, {"op", "crossbar_linear"}, {"inputs", {"flat"}}, {"shape", {3}}, {"attrs", none}}, "fc",
               1, 8, 8, true, {{"outputs", 3}, {"inputs_per_output", 16}, {"invocations", 1}, {"repeats", 1}}));
  return {{"schema", "cimq.layers"},
          {"version", "1.0.0"},
          {"input", {{"name", "x"}, {"shape", {2, 4, 5}}, {"dtype", "float32"}}},
          {"output", "fc"},
          {"nodes", nodes}};
}

struct SmallNet {
  std::vector<std::int8_t> conv_weight = pattern(4 * 1 * 2 * 3, -7, 7);
  std::vector<std::int8_t> fc_weight = pattern(3 * 16, -127, 127, 37);
  float conv_x_scale = 0.125F, fc_x_scale = 0.5F;
  std::vector<float> conv_multiplier = {0.01F, 0.02F, 0.03F, 0.04F}, conv_bias = {0.1F, -0.2F, 0.3F, 0.0F};
  std::vector<float> fc_multiplier = {0.001F, 0.002F, 0.003F}, fc_bias = {1.0F, 2.0F, 3.0F};
};

/// Files of the small network, without expected results.
inline Files small_net_files(const SmallNet& net = {}, const Hardware& hardware = {}) {
  TensorFile weights;
  weights.add("conv.weight", "I8", {4, 1, 2, 3}, net.conv_weight);
  weights.add("conv.x_scale", "F32", {}, std::vector<float>{net.conv_x_scale});
  weights.add("conv.multiplier", "F32", {4}, net.conv_multiplier);
  weights.add("conv.bias", "F32", {4}, net.conv_bias);
  weights.add("fc.weight", "I8", {3, 16}, net.fc_weight);
  weights.add("fc.x_scale", "F32", {}, std::vector<float>{net.fc_x_scale});
  weights.add("fc.multiplier", "F32", {3}, net.fc_multiplier);
  weights.add("fc.bias", "F32", {3}, net.fc_bias);
  return {{"layers.json", bytes_of(layers_of_small_net().dump())},
          {"hardware.json", bytes_of(hardware.to_json())},
          {"policy.json", bytes_of(R"({"conv": [4, 5], "fc": [8, 8]})")},
          {"weights.safetensors", weights.bytes()}};
}

/// A batch of inputs for the small network.
inline runtime::Tensor small_net_input(std::int64_t batch) {
  runtime::Tensor x{{batch, 2, 4, 5}, {}};
  for (std::int64_t i = 0; i < batch * 40; ++i) x.data.push_back(static_cast<float>((i * 13) % 41 - 20) * 0.11F);
  return x;
}

}  // namespace cimq::test
