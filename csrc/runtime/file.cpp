#include "runtime/file.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <random>
#include <sstream>
#include <system_error>

#include "common/error.h"
#include "common/printable.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::runtime {
namespace fs = std::filesystem;

namespace {

/// Names of what a process was given open. A link there may lead to a regular file, which is the shell's.
bool is_given_open(const fs::path& path) {
  const std::string text = path.lexically_normal().string();
  const auto begins = [&](const char* start) { return text.starts_with(start); };
  return begins("/dev/std") || begins("/dev/fd/") || begins("/proc/");
}

/// Where a link leads to, also if nothing is there yet.
fs::path end_of_links(fs::path path, const std::string& name) {
  constexpr int kMostLinks = 40;  // as Linux
  std::error_code error;
  for (int i = 0; i < kMostLinks && fs::is_symlink(fs::symlink_status(path, error)); ++i) {
    path = path.parent_path() / fs::read_symlink(path, error);  // an absolute path replaces what stands before it
  }
  check(!fs::is_symlink(fs::symlink_status(path, error)), name, ": cannot be written (its links lead nowhere)");
  return path;
}

/// Writes everything or throws; `name` is what the user calls it.
void write_whole(const fs::path& path, std::span<const std::uint8_t> bytes, std::ios::openmode mode,
                 const std::string& name) {
  errno = 0;
  std::ofstream stream(path, mode | std::ios::out);
  check(stream.is_open(), name, ": cannot be written (", std::generic_category().message(errno), ")");
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  stream.close();  // flushes: a full disk shows here at the latest
  check(!stream.fail(), name, ": writing failed (", std::generic_category().message(errno), ")");
}

}  // namespace

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
  const std::string name = printable(path.string());
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(!fs::is_directory(status), name, ": is a folder, not a file");
  // A pipe, a device, or what the shell has opened is written into: replaced, it would be gone for everybody.
  if (fs::exists(status) && (!fs::is_regular_file(status) || is_given_open(path))) {
    write_whole(path, bytes, std::ios::binary | std::ios::app, name);
    return;
  }
  const fs::path target = end_of_links(path, name);
  const fs::path temporary = target.string() + message(".tmp", std::random_device{}());
  try {
    write_whole(temporary, bytes, std::ios::binary | std::ios::trunc, name);
    if (fs::exists(status)) fs::permissions(temporary, status.permissions(), error);
    fs::rename(temporary, target, error);
    check(!error, name, ": cannot be written (", error.message(), ")");
  } catch (const Error&) {
    fs::remove(temporary, error);
    throw;
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
