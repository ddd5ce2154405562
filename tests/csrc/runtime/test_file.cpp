#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "common/error.h"
#include "runtime/bundle_fixture.h"
#include "runtime/file.h"
#include "runtime/parallel.h"

using cimq::runtime::read_file;
using cimq::runtime::write_file;
using namespace cimq::test;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

std::string content(const fs::path& path) {
  const auto bytes = read_file(path, 1000);
  return {bytes.begin(), bytes.end()};
}

std::size_t files_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("A file is written completely, over an older one too", "[file]") {
  const TemporaryFolder folder;
  write_file(folder.path() / "a", bytes_of("one"));
  CHECK(content(folder.path() / "a") == "one");
  fs::permissions(folder.path() / "a", fs::perms::owner_read | fs::perms::owner_write);
  write_file(folder.path() / "a", bytes_of("longer"));
  CHECK(content(folder.path() / "a") == "longer");
  CHECK(fs::status(folder.path() / "a").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("What a link leads to is written, the link stays", "[file]") {
  const TemporaryFolder folder;
  fs::create_directory(folder.path() / "far");
  fs::create_symlink("far/target", folder.path() / "link");  // nothing is there yet
  fs::create_symlink(folder.path() / "link", folder.path() / "second");
  for (const char* text : {"one", "two"}) {
    write_file(folder.path() / "second", bytes_of(text));
    CHECK(fs::is_symlink(folder.path() / "link"));
    CHECK(fs::is_symlink(folder.path() / "second"));
    CHECK(content(folder.path() / "far" / "target") == text);
  }
  fs::create_symlink("round", folder.path() / "round");
  CHECK_THROWS_AS(write_file(folder.path() / "round", bytes_of("x")), cimq::Error);
  CHECK(fs::is_symlink(folder.path() / "round"));
}

TEST_CASE("A pipe is written into", "[file]") {
  const TemporaryFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  std::string got;
  std::jthread reader([&] {
    std::ifstream stream(pipe);
    got.assign(std::istreambuf_iterator<char>(stream), {});
  });
  write_file(pipe, bytes_of("through"));
  reader.join();
  CHECK(got == "through");
  CHECK(fs::is_fifo(pipe));
}

TEST_CASE("A device is written into, and a full one is an error", "[file]") {
  write_file("/dev/null", bytes_of("gone"));
  CHECK(fs::is_character_file("/dev/null"));
  if (fs::exists("/dev/full")) {
    CHECK_THROWS_WITH(write_file("/dev/full", bytes_of("x")),
                      Contains("/dev/full: writing failed") && Contains("space"));
    CHECK(fs::is_character_file("/dev/full"));
  }
}

TEST_CASE("Errors of writing name the user's file", "[file]") {
  const TemporaryFolder folder;
  const fs::path missing = folder.path() / "none" / "y.npy";
  CHECK_THROWS_WITH(write_file(missing, bytes_of("x")),
                    missing.string() + ": cannot be written (No such file or directory)");
  CHECK_THROWS_WITH(write_file(folder.path(), bytes_of("x")), Contains("is a folder"));
  CHECK(files_in(folder.path()) == 0);
}

TEST_CASE("OMP_NUM_THREADS says how many threads there are", "[parallel]") {
  const char* before = std::getenv("OMP_NUM_THREADS");
  const std::string kept = before == nullptr ? "" : before;
  const auto with = [](const char* value) {
    ::setenv("OMP_NUM_THREADS", value, 1);
    return cimq::runtime::usable_threads();
  };
  CHECK(with("3") == 3);
  CHECK(with("5,2") == 5);
  CHECK(with(" 7") == 7);
  ::unsetenv("OMP_NUM_THREADS");
  const int all = cimq::runtime::usable_threads();
  CHECK(all >= 1);
  CHECK(all <= static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  for (const char* odd : {"", "0", "-2", "x", "3x", "99999999999"}) {
    INFO(odd);
    CHECK(with(odd) == all);
  }
  if (before == nullptr) {
    ::unsetenv("OMP_NUM_THREADS");
  } else {
    ::setenv("OMP_NUM_THREADS", kept.c_str(), 1);
  }
}
