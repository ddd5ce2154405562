#include <catch2/catch.hpp>

#include "common/error.h"
#include "runtime/bundle_fixture.h"
#include "runtime/file.h"
#include "runtime/npy.h"

using Catch::Matchers::Contains;
using cimq::runtime::parse_npy;
using cimq::runtime::Tensor;

namespace {

std::vector<std::uint8_t> npy(const std::string& header, std::size_t data_bytes, std::uint8_t major = 1) {
  std::vector<std::uint8_t> file = {0x93, 'N', 'U', 'M', 'P', 'Y', major, 0};
  for (int i = 0; i < (major == 1 ? 2 : 4); ++i) file.push_back(static_cast<std::uint8_t>(header.size() >> (8 * i)));
  file.insert(file.end(), header.begin(), header.end());
  file.resize(file.size() + data_bytes);
  return file;
}

}  // namespace

TEST_CASE(".npy files of every rank survive a round trip", "[npy]") {
  const cimq::test::TemporaryFolder folder;
  const auto path = folder.path() / "x.npy";
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {3}, {2, 3}, {0, 4}, {1, 2, 3, 4}};
  for (const auto& shape : shapes) {
    Tensor tensor{shape, {}};
    std::int64_t count = 1;
    for (const auto dim : shape) count *= dim;
    for (std::int64_t i = 0; i < count; ++i) tensor.data.push_back(static_cast<float>(i) * 0.1F);
    cimq::runtime::write_npy(path, tensor);
    const Tensor back = cimq::runtime::read_npy(path);
    CHECK(back.shape == shape);
    CHECK(back.data == tensor.data);
    CHECK((std::filesystem::file_size(path) - tensor.data.size() * 4) % 64 == 0);
  }
  CHECK_THROWS_WITH(cimq::runtime::write_npy(folder.path() / "no" / "x.npy", {}), Contains("cannot be written"));
  CHECK_THROWS_WITH(cimq::runtime::read_npy(folder.path() / "missing.npy"), Contains("no such file"));
}

TEST_CASE("What numpy writes is read, format 1 and 2", "[npy]") {
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n";
  CHECK(parse_npy(npy(header, 24), "x").shape == std::vector<std::int64_t>{2, 3});
  CHECK(parse_npy(npy(header, 24, 2), "x").data.size() == 6);
}

TEST_CASE("Other .npy files are refused with a reason", "[npy]") {
  const auto header = [](const char* descr, const char* order, const char* shape) {
    return std::string("{'descr': ") + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
  };
  const auto refused = [](const std::vector<std::uint8_t>& file, const char* part) {
    CHECK_THROWS_WITH(parse_npy(file, "x.npy"), Contains(part));
  };
  refused({}, "not a .npy file");
  refused(npy("", 0, 3), "format 3");
  refused(npy(header("'<f8'", "False", "(2,)"), 16), "must hold float32");
  refused(npy(header("'<f4'", "True", "(2, 2)"), 16), "C order");
  refused(npy(header("'<f4'", "False", "(3,)"), 8), "cut short");
  refused(npy(header("'<f4'", "False", "(1,)"), 8), "needs 4 bytes");
  refused(npy(header("'<f4'", "False", "(-1,)"), 4), "not valid");
  refused(npy(header("'<f4'", "False", "(4294967296, 4294967296)"), 4), "cut short");
  refused(npy(header("'<f4'", "False", "2"), 8), "must be a tuple");
  refused(npy("{'shape': (1,)}", 4), "lacks 'descr'");
}

TEST_CASE("Every truncation of a .npy file is an error", "[npy]") {
  const auto file = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 8);
  for (std::size_t length = 0; length < file.size(); ++length) {
    CHECK_THROWS_AS(parse_npy(std::span(file).first(length), "x"), cimq::Error);
  }
}
