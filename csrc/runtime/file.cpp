#include "runtime/file.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>

#include "common/error.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::runtime {
namespace fs = std::filesystem;

std::vector<std::uint8_t> read_file(const fs::path& path, std::uint64_t max_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(fs::exists(status), path.string(), ": there is no such file");
  check(fs::is_regular_file(status), path.string(), ": must be a regular file");
  const std::uint64_t size = fs::file_size(path, error);
  check(!error, path.string(), ": cannot be read (", error.message(), ")");
  check(size <= max_bytes, path.string(), ": has ", size, " bytes, at most ", max_bytes, " are expected");
  std::ifstream stream(path, std::ios::binary);
  check(stream.is_open(), path.string(), ": cannot be opened");
  std::vector<std::uint8_t> bytes(size);
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  check(static_cast<std::uint64_t>(stream.gcount()) == size, path.string(), ": ends after ", stream.gcount(), " of ",
        size, " bytes");
  return bytes;
}

void write_file(const fs::path& path, std::span<const std::uint8_t> bytes) {
  const fs::path temporary = path.string() + message(".tmp", std::random_device{}());
  {
    std::ofstream stream(temporary, std::ios::binary | std::ios::trunc);
    check(stream.is_open(), path.string(), ": cannot be written (no such folder, or no permission)");
    stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    stream.flush();
    if (!stream.good()) {
      std::remove(temporary.c_str());
      throw Error(message(path.string(), ": writing failed (is the disk full?)"));
    }
  }
  std::error_code error;
  fs::rename(temporary, path, error);
  if (error) {
    std::remove(temporary.c_str());
    throw Error(message(path.string(), ": cannot be written (", error.message(), ")"));
  }
}

fs::path path_inside(const fs::path& folder, const std::string& relative) {
  const auto refuse = [&](const char* reason) {
    throw Error(message("manifest.json: the path '", compiler::shown(relative), "' ", reason));
  };
  if (relative.empty() || relative.front() == '/') refuse("must be relative");
  if (relative.find_first_of(std::string("\\:\0", 3)) != std::string::npos) refuse("must use plain names and '/'");
  std::stringstream parts(relative);
  for (std::string part; std::getline(parts, part, '/');) {
    if (part.empty() || part == "." || part == "..") refuse("must stay inside the bundle");
  }
  if (relative.back() == '/') refuse("must name a file");
  const fs::path path = folder / relative;
  std::error_code error;
  const fs::path root = fs::canonical(folder, error);
  check(!error, folder.string(), ": there is no such folder");
  const fs::path real = fs::canonical(path, error);
  check(!error, "bundle ", folder.string(), ": the file '", compiler::shown(relative), "' is missing");
  const auto [root_end, unused] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
  if (root_end != root.end()) refuse("is a link that leads out of the bundle");
  return real;
}

}  // namespace cimq::runtime
