// What a bundle asks for is counted before it is taken: memory that layers keep, memory of a run, operations.
#include <algorithm>
#include <catch2/catch.hpp>

#include "common/error.h"
#include "common/saturating.h"
#include "compiler/frontends/layers_json.h"
#include "runtime/budget.h"
#include "runtime/executor.h"
#include "runtime/live_values.h"
#include "runtime/memory_plan.h"
#include "runtime/one_layer_net.h"

using cimq::Executor;
using cimq::kUncountable;
using cimq::saturating_product;
using cimq::saturating_sum;
using cimq::runtime::LoadOptions;
using cimq::runtime::Tensor;
using namespace cimq::test;
using Catch::Matchers::Contains;

namespace {

constexpr std::uint64_t kMegabyte = 1 << 20;

Executor load(const Files& files, const LoadOptions& options = {}) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), files);
  return Executor::load(folder.path(), options);
}

void refused(const Files& files, const LoadOptions& options, const char* part) {
  CHECK_THROWS_WITH(load(files, options), Contains(part));
}

json padded_to(std::int64_t height, std::int64_t width) {
  return plain_node("big", "pad", "fc", {1, height, width},
                    {{"before", {0, 0, 0}}, {"after", {0, height - 1, width - 1}}, {"value", 0.0}});
}

const OneLayer kPixel = {.input = {1, 1, 1}, .weight = {1, 1, 1, 1}, .output = {1, 1, 1}};

}  // namespace

TEST_CASE("Counts do not wrap", "[bounds]") {
  CHECK(saturating_product(3, 4, 5) == 60);
  CHECK(saturating_product(std::uint64_t{1} << 40, std::int64_t{1} << 40) == kUncountable);
  CHECK(saturating_product(kUncountable, 0, 7) == 0);
  CHECK(saturating_sum(kUncountable - 1, 1) == kUncountable);
  CHECK(saturating_sum(kUncountable, 1) == kUncountable);
}

TEST_CASE("A zero point times the weights' sum is checked, not wrapped", "[bounds]") {
  // 70,000 * 127 * 255 > 2^31: the sums of products and of corrections both leave int32.
  OneLayer layer{.input = {70'000}, .weight = {1, 70'000}, .output = {1}, .act_zero = -255, .value = 127};
  refused(one_layer_files(layer), {}, "must fit int32");
  // As many as fit: 66,000 * 127 * 255 = 2,137,410,000.
  layer.input = {66'000};
  layer.weight = {1, 66'000};
  const Executor executor = load(one_layer_files(layer));
  Tensor x{{2, 66'000}, std::vector<float>(132'000, -255.0F)};
  std::fill(x.data.begin() + 66'000, x.data.end(), 0.0F);
  const Tensor y = executor.run(x);
  CHECK(y.data[0] == static_cast<float>(-66'000LL * 127 * 255) + 1.0F);
  CHECK(y.data[1] == 1.0F);
}

TEST_CASE("The border of a convolution with a zero point counts as working memory", "[bounds]") {
  // One pixel, one weight, and 17 GB of padding around them. Cells that vary: convolutions that are a plain product
  // take the border line by line.
  cimq::Hardware noisy;
  noisy.cell.programming.model = "gaussian";
  noisy.cell.programming.sigma_levels = 1e-9;
  OneLayer layer{.input = {1, 1, 1},
                 .weight = {1, 1, 1, 1},
                 .output = {1, 2, 2},
                 .padding = {65'535, 65'535, 65'535, 65'535},
                 .act_zero = -3};
  const auto strided = [&](const OneLayer& net, std::int64_t stride) {
    json nodes = nodes_of(net);
    nodes[0]["attrs"]["stride"] = {stride, stride};
    return one_layer_files(net, nodes, noisy);
  };
  refused(strided(layer, 65'536), {}, "node 'fc' (crossbar_conv2d): one sample needs");
  // Less of it: the corner sees the border alone, the middle the pixel.
  layer.padding = {2, 2, 2, 2};
  layer.output = {1, 3, 3};
  const Tensor y = load(strided(layer, 2), {.max_working_bytes = kMegabyte}).run({{1, 1, 1, 1}, {-1.0F}});
  CHECK(y.data == std::vector<float>{1.0F, 1.0F, 1.0F, 1.0F, 0.0F, 1.0F, 1.0F, 1.0F, 1.0F});
}

TEST_CASE("Lines of patches count as working memory", "[bounds]") {
  // 4,096 kernel rows of a line with 131,072 padded values each: half a gigabyte for 4 KB of weights.
  OneLayer layer{.input = {1, 4'096, 1},
                 .weight = {1, 1, 4'096, 1},
                 .output = {1, 1, 131'071},
                 .padding = {65'535, 65'535, 0, 0},
                 .weight_bits = 4,
                 .act_bits = 4};
  refused(one_layer_files(layer), {.max_working_bytes = 100 * kMegabyte}, "bytes of working memory");
  layer.padding = {10, 10, 0, 0};
  layer.output = {1, 1, 21};
  CHECK(load(one_layer_files(layer), {.max_working_bytes = 100 * kMegabyte}).threads() >= 1);
}

TEST_CASE("Many layers that share one tensor count as often", "[bounds]") {
  // Every group is programmed on its own; the file holds 8,192 weights once.
  const OneLayer layer{.input = {8'192, 1, 1}, .weight = {8'192, 1, 1, 1}, .output = {8'192, 1, 1}, .groups = 8'192};
  json nodes = json::array();
  for (int i = 0; i < 20; ++i) {
    json node = nodes_of(layer, cimq::message("conv", i))[0];
    node["layer_index"] = i;
    if (i > 0) node["inputs"] = {cimq::message("conv", i - 1)};
    nodes.push_back(node);
  }
  refused(one_layer_files(layer, nodes), {.max_working_bytes = 200 * kMegabyte},
          "brings weights and programmed cells to");
}

TEST_CASE("Operations of one sample are bounded, and the bound can be moved", "[bounds]") {
  json nodes = nodes_of(kPixel);
  nodes.push_back(padded_to(8'192, 8'192));
  nodes.push_back(
      plain_node("pool", "max_pool2d", "big", {1, 4'097, 4'097},
                 {{"kernel", {4'096, 4'096}}, {"stride", {1, 1}}, {"padding", {0, 0}}, {"dilation", {1, 1}}}));
  refused(one_layer_files(kPixel, nodes), {}, "node 'pool' (max_pool2d) brings one sample to 2816");
  refused(one_layer_files(kPixel, nodes), {}, "more than 10000000000000; raise max_operations");
  CHECK(load(one_layer_files(kPixel, nodes), {.max_operations = std::uint64_t{1} << 60}).threads() >= 1);
  // conv 80 * 6; relu 80 + 80; add 80 + 160; pool 16 * 4 + 80; flatten 16 + 16; fc 3 * 16.
  const std::uint64_t own = 480 + 160 + 240 + 144 + 32 + 48;
  CHECK(load(small_net_files(), {.max_operations = own}).threads() >= 1);
  refused(small_net_files(), {.max_operations = own - 1}, "node 'fc' (crossbar_linear) brings one sample to");
  // A lossy converter looks at every digit and slice.
  cimq::Hardware lossy;
  lossy.adc.bits = 5;
  refused(small_net_files({}, lossy), {.max_operations = 2 * own}, "operations");
}

TEST_CASE("Products beyond 64 bits are refused, not wrapped", "[bounds]") {
  const cimq::compiler::Graph graph = cimq::compiler::read_layers(layers_of_small_net().dump());
  cimq::compiler::Node node = graph.nodes[3];
  node.window.kernel = {std::int64_t{1} << 31, std::int64_t{1} << 31};
  node.shape = {1 << 20, 1, 1};
  CHECK(cimq::runtime::operations_of(graph, node) == kUncountable);
  cimq::runtime::Budget budget(100, 100);
  CHECK_THROWS_WITH(budget.operate(node, kUncountable), Contains("2^64 or more operations"));
}

TEST_CASE("Live values are what the plan says", "[bounds]") {
  json nodes = nodes_of(kPixel);
  nodes.push_back(padded_to(64, 32));
  for (int i = 0; i < 10; ++i) {
    const std::string before = i == 0 ? "big" : cimq::message("r", i - 1);
    nodes.push_back(plain_node(cimq::message("r", i), "relu", before, {1, 64, 32}));
  }
  const Files files = one_layer_files(kPixel, nodes);
  const auto& bytes = files.at("layers.json");
  const std::string text(bytes.begin(), bytes.end());
  const cimq::compiler::Graph graph = cimq::compiler::read_layers(text);
  const auto plan = cimq::runtime::plan_memory(graph);
  CHECK(plan.peak_elements() == 2 * 64 * 32);

  cimq::runtime::LiveValues values(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    values.make(i, static_cast<std::size_t>(cimq::compiler::elements(graph.nodes[i].shape)));
    CHECK(values.bytes() == static_cast<std::uint64_t>(plan.live_elements[i]) * sizeof(float));
    for (const int value : plan.freed_after[i]) {
      values.free(static_cast<std::size_t>(value));
      CHECK(values.at(static_cast<std::size_t>(value)) == nullptr);
    }
  }
  CHECK(values.peak_bytes() == 2 * 64 * 32 * sizeof(float));
  CHECK(values.bytes() == 64 * 32 * sizeof(float));  // the output
}

TEST_CASE("A network fits the memory of two values, however long its chain", "[bounds]") {
  json nodes = nodes_of(kPixel);
  nodes.push_back(padded_to(512, 512));
  for (int i = 0; i < 40; ++i) {
    const std::string before = i == 0 ? "big" : cimq::message("r", i - 1);
    nodes.push_back(plain_node(cimq::message("r", i), "relu", before, {1, 512, 512}));
  }
  const Files files = one_layer_files(kPixel, nodes);
  const Executor executor = load(files, {.threads = 4, .max_working_bytes = 3 * kMegabyte});
  const Tensor y = executor.run({{9, 1, 1, 1}, std::vector<float>(9, 7.0F)});
  for (std::int64_t b = 0; b < 9; ++b) CHECK(y.data[static_cast<std::size_t>(b) * 512 * 512] == 8.0F);
  refused(files, {.max_working_bytes = 2 * kMegabyte - 1}, "more than 2097151 bytes of working memory");
}

TEST_CASE("The bound of memory never changes a result", "[bounds]") {
  const TemporaryFolder folder;
  write_bundle(folder.path(), small_net_files());
  const Tensor x = small_net_input(33);
  const Tensor wanted = Executor::load(folder.path(), {.threads = 1}).run(x);
  for (const int threads : {1, 3, 16}) {
    for (const std::uint64_t bytes : {std::uint64_t{1} << 18, std::uint64_t{1} << 20, std::uint64_t{1} << 33}) {
      CHECK(Executor::load(folder.path(), {.threads = threads, .max_working_bytes = bytes}).run(x).data == wanted.data);
    }
  }
}
