// Files of a bundle folder: read whole, with a stated size, and never from outside the folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace cimq::runtime {

/// Reads a regular file of at most `max_bytes`. Throws Error naming the path.
std::vector<std::uint8_t> read_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// Writes to a temporary name in the same folder, then renames: all of the file is there or the one before it. A link
/// stays and what it leads to is replaced; a pipe or device is written into. Throws Error naming `path`.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);

/// The place of `relative` (as written in a manifest) in `folder`. Throws Error for an absolute path, for `..`, `.` or
/// empty parts, for a backslash or colon, and for a link that leads out of the folder.
std::filesystem::path path_inside(const std::filesystem::path& folder, const std::string& relative);

}  // namespace cimq::runtime
