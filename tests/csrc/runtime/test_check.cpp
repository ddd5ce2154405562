// What `check` proves, and that the parts of a bundle belong together.
#include <catch2/catch.hpp>

#include "common/error.h"
#include "compiler/emit/program_jsonl.h"
#include "compiler/frontends/layers_json.h"
#include "compiler/passes/pipeline.h"
#include "runtime/bundle_fixture.h"
#include "runtime/executor.h"

using cimq::Executor;
using cimq::runtime::LoadOptions;
using cimq::runtime::Tensor;
using namespace cimq::test;
using Catch::Matchers::Contains;

namespace {

Executor load(const Files& files, const LoadOptions& options = {}) {
  const TemporaryFolder folder;
  write_bundle(folder.path(), files);
  return Executor::load(folder.path(), options);
}

Files with_program(Files files, const cimq::Hardware& hardware = {}) {
  const auto graph = cimq::compiler::read_layers(layers_of_small_net().dump());
  files["program.jsonl"] =
      bytes_of(cimq::compiler::write_program(*cimq::compiler::compile_graph(graph, hardware).program));
  return files;
}

Files replaced(Files files, const std::string& name, const std::string& from, const std::string& to) {
  std::string text(files[name].begin(), files[name].end());
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  files[name] = bytes_of(text.replace(at, from.size(), to));
  return files;
}

/// The small network's results for `batch` samples, as a file; `change` may spoil them.
struct Stored {
  Tensor x;
  std::vector<std::int32_t> conv, fc;
  std::vector<float> output;

  explicit Stored(std::int64_t batch) : x(small_net_input(batch)) {
    auto result = load(small_net_files()).run_layers(x);
    conv = std::move(result.layers[0].integers);
    fc = std::move(result.layers[1].integers);
    output = std::move(result.output.data);
  }

  Files files(std::int64_t said_batch = -1) const {
    const std::int64_t batch = said_batch < 0 ? x.shape[0] : said_batch;
    TensorFile tensors;
    tensors.add("input", "F32", x.shape, x.data);
    tensors.add("layer.conv", "I32", {batch, 4, 4, 5}, conv);
    tensors.add("layer.fc", "I32", {batch, 3}, fc);
    tensors.add("output", "F32", {batch, 3}, output);
    Files all = small_net_files();
    all["expected.safetensors"] = tensors.bytes();
    return all;
  }
};

}  // namespace

TEST_CASE("A check of many samples is done in parts and finds every difference", "[check]") {
  Stored stored(300);
  // A bound that leaves room for a few samples only.
  const LoadOptions small{.threads = 3, .max_working_bytes = 1 << 19};
  const auto good = load(stored.files(), small).check();
  CHECK(good.passed());
  CHECK(good.entries[0].compared == 300 * 80);
  CHECK(good.entries[1].compared == 300 * 3);
  CHECK(good.entries[2].compared == 300 * 3);

  for (const std::size_t element : {5U, 450U, 899U}) ++stored.fc[element];
  stored.output[300] += 1.0F;
  const auto bad = load(stored.files(), small).check();
  CHECK_FALSE(bad.passed());
  CHECK(bad.entries[0].different == 0);
  CHECK(bad.entries[1].different == 3);
  CHECK_THAT(bad.entries[1].first_difference, Contains("element 5: expected"));
  CHECK(bad.entries[2].different == 1);
  CHECK_THAT(bad.entries[2].first_difference, Contains("element 300: expected"));
}

TEST_CASE("A sample that proves nothing is refused", "[check]") {
  const Executor empty = load(Stored(0).files());
  CHECK_THROWS_WITH(empty.check(), Contains("'input' holds no sample") && Contains("[0, 2, 4, 5]"));
  CHECK_FALSE(cimq::runtime::CheckReport{}.passed());
  CHECK_FALSE(cimq::runtime::CheckReport{{{"output", 0, 0, ""}}}.passed());
}

TEST_CASE("The stored sample's shapes are looked at before anything runs", "[check]") {
  Stored stored(2);
  Stored one = stored;
  one.x = small_net_input(1);  // results of another number of samples
  CHECK_THROWS_WITH(load(one.files(2)).check(),
                    Contains("'layer.conv' must be I32 [1, 4, 4, 5], got I32 [2, 4, 4, 5]"));
  Stored flat = stored;
  flat.x.shape = {2, 40};
  CHECK_THROWS_WITH(load(flat.files(2)).check(),
                    Contains("'input' must be F32 [batch, ...] = [2, 2, 4, 5], got F32 [2, 40]"));
  const Files files = stored.files();
  CHECK_THROWS_WITH(load(replaced(files, "expected.safetensors", "layer.fc", "layer.fd")).check(),
                    Contains("there is no tensor 'layer.fc'"));
  CHECK_THROWS_WITH(load(replaced(files, "expected.safetensors", "\"I32\"", "\"F32\"")).check(),
                    Contains("'layer.conv' must be I32 [2, 4, 4, 5], got F32"));
  Stored odd = stored;
  odd.x.data[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(load(odd.files()).check(), Contains("'input' must be finite"));
}

TEST_CASE("A sample that asks for too much work is refused", "[check]") {
  const Files files = Stored(100).files();
  CHECK_THROWS_WITH(load(files, {.max_operations = 50'000}).check(),
                    Contains("checking its sample asks for 110400 operations (100 samples), more than 50000"));
  CHECK(load(files, {.max_operations = 200'000}).check().passed());
}

TEST_CASE("A program that is not the network's is refused", "[check]") {
  const Files files = with_program(Stored(1).files());
  CHECK(load(files).check().passed());
  const auto refused = [](const Files& changed, const char* part) { CHECK_THROWS_WITH(load(changed), Contains(part)); };
  refused(replaced(files, "program.jsonl", "\"digits\":[0,8]", "\"digits\":[0,4]"), "sees a digit 0 times");
  refused(replaced(files, "program.jsonl", "\"weight\":\"fc.weight\"", "\"weight\":\"conv.weight\""),
          "weight must be 'fc.weight'");
  refused(replaced(files, "program.jsonl", "\"rows\":256", "\"rows\":128"), "hardware must be that of hardware.json");
  refused(replaced(files, "layers.json", "\"output\":\"fc\"", "\"output\":\"flat\""), "output must be 'flat'");
  Files cut = files;
  cut["program.jsonl"].resize(cut["program.jsonl"].size() / 2);
  refused(cut, "program.jsonl: ");
  Files empty = files;
  empty["program.jsonl"].clear();
  refused(empty, "program.jsonl: the file is empty");
}

TEST_CASE("A policy that is not the layers' is refused", "[check]") {
  const auto with = [](const std::string& policy) {
    Files files = small_net_files();
    files["policy.json"] = bytes_of(policy);
    return files;
  };
  const auto refused = [&](const std::string& policy, const char* part) {
    INFO(policy);
    CHECK_THROWS_WITH(load(with(policy)), Contains(part));
  };
  CHECK(load(with(R"({"fc": [8, 8], "conv": [4, 5]})")).threads() >= 1);
  const std::string head = R"({"schema": "cimq.policy", "version": "1.0.0", "layers": [)";
  const std::string conv = R"({"name": "conv", "weight_bits": 4, "act_bits": 5})";
  const std::string fc = R"({"name": "fc", "weight_bits": 8, "act_bits": 8})";
  CHECK(load(with(head + conv + "," + fc + "]}")).threads() >= 1);
  const char* differ = "policy.json and layers.json state different bits";
  refused(R"({"conv": [4, 5]})", differ);
  refused(R"({"conv": [4, 5], "fc": [8, 7]})", "layer 'fc' has (8, 7) and (8, 8)");
  refused(R"({"conv": [4, 5], "fc": [8, 8], "fd": [8, 8]})", "layers.json has no layer 'fd'");
  refused(head + conv + "]}", differ);
  refused(head + conv + "," + conv + "]}", "layer 'conv' is given twice");
  refused(head + R"({"name": "conv", "weight_bits": 4}]})", "'act_bits' is missing");
  refused(R"({"conv": [4, 5], "fc": [8, 9]})", "integers from 1 to 8");
  refused(R"({"conv": [4, 5, 6], "fc": [8, 8]})", "must have 2 entries");
  refused(R"({"schema": "other", "version": "1.0.0"})", "schema must be 'cimq.policy'");
  refused("[]", "policy.json: must be a JSON object");
  refused("\xef\xbb\xbf{}", "byte order mark");
  refused("", "not valid JSON");
}

TEST_CASE("A byte order mark is refused in every JSON file of a bundle", "[check]") {
  for (const char* name : {"layers.json", "hardware.json", "policy.json", "program.jsonl"}) {
    Files files = with_program(small_net_files());
    files[name].insert(files[name].begin(), {0xef, 0xbb, 0xbf});
    INFO(name);
    CHECK_THROWS_WITH(load(files), Contains("byte order mark"));
  }
  const TemporaryFolder folder;
  write_bundle(folder.path(), small_net_files());
  std::ifstream stream(folder.path() / "manifest.json");
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  std::ofstream(folder.path() / "manifest.json") << "\xef\xbb\xbf" << text;
  CHECK_THROWS_WITH(Executor::load(folder.path()),
                    Contains("manifest.json: not valid JSON: begins with a byte order mark"));
}
