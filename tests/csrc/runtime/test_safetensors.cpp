#include <algorithm>
#include <catch2/catch.hpp>

#include "common/error.h"
#include "runtime/bundle_fixture.h"
#include "runtime/safetensors.h"

using Catch::Matchers::Contains;
using cimq::runtime::Safetensors;
using cimq::test::TensorFile;

namespace {

std::vector<std::uint8_t> file_with(const std::string& header, std::size_t data_bytes, std::int64_t claimed = -1) {
  const std::uint64_t size = claimed < 0 ? header.size() : static_cast<std::uint64_t>(claimed);
  std::vector<std::uint8_t> file(8 + header.size() + data_bytes);
  std::memcpy(file.data(), &size, 8);
  std::copy(header.begin(), header.end(), file.begin() + 8);
  return file;
}

void refused(const std::vector<std::uint8_t>& file, const char* part) {
  CHECK_THROWS_WITH(Safetensors(file, "w"), Contains(part));
}

}  // namespace

TEST_CASE("Tensors come back with name, shape and values", "[safetensors]") {
  TensorFile file;
  file.add("a", "F32", {2, 2}, std::vector<float>{1, 2, 3, 4});
  file.add("b", "I8", {3}, std::vector<std::int8_t>{-1, 0, 1});
  file.add("c", "I32", {}, std::vector<std::int32_t>{-70000});
  file.add("d", "F64", {1}, std::vector<double>{0.1});
  file.add("empty", "F32", {0, 5}, std::vector<float>{});
  const Safetensors read(file.bytes(), "w");
  CHECK(read.values<float>("a") == std::vector<float>{1, 2, 3, 4});
  CHECK(read.at("a").shape == std::vector<std::int64_t>{2, 2});
  CHECK(read.values<std::int8_t>("b") == std::vector<std::int8_t>{-1, 0, 1});
  CHECK(read.values<std::int32_t>("c") == std::vector<std::int32_t>{-70000});  // unaligned in the file
  CHECK(read.values<double>("d") == std::vector<double>{0.1});
  CHECK(read.values<float>("empty").empty());
  CHECK_THROWS_WITH(read.values<float>("b"), Contains("must be F32, got I8"));
  CHECK_THROWS_WITH(read.at("z"), Contains("there is no tensor 'z'"));
}

TEST_CASE("Hostile safetensors headers are refused", "[safetensors]") {
  refused({1, 2, 3}, "at least 8 bytes");
  refused(file_with("{}", 0, 1000), "header is said to have 1000");
  refused(file_with("{}", 0, INT64_MAX), "header is said to have");
  refused(file_with("{\"a\":", 0), "not valid JSON");
  refused(file_with("[]", 0), "must be a JSON object");
  refused(file_with("{}", 4), "4 bytes of data belong to no tensor");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", 4), "do not lie within");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), "do not lie within");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4),
          "data_offsets must hold integers");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4), "more bytes than the file has");
  refused(file_with(R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,4]}})", 4), "needs 2 bytes");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1099511627776,1099511627776,4],"data_offsets":[0,4]}})", 4),
          "more bytes than the file has");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", 4), "shape");
  refused(file_with(R"({"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}})", 4), "unknown dtype");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"more":1}})", 4), "unknown key 'more'");
  refused(file_with(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "'data_offsets' is missing");
  refused(
      file_with(
          R"({"a":{"dtype":"I8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"I8","shape":[2],"data_offsets":[2,4]}})",
          4),
      "overlap or leave a hole");
  refused(
      file_with(
          R"({"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})",
          1),
      "given twice");
  refused(file_with(R"({"__metadata__":{"a":1}})", 0), "__metadata__");
}

TEST_CASE("Every truncation of a safetensors file is an error", "[safetensors]") {
  TensorFile file;
  file.add("a", "F32", {2}, std::vector<float>{1, 2});
  const auto bytes = file.bytes();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CHECK_THROWS_AS(Safetensors({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)}, "w"),
                    cimq::Error);
  }
}
