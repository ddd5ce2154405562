// NumPy's .npy files: the subset that cimq-run reads and writes (float32, C order, format 1 and 2).
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
#pragma once

#include <filesystem>

#include "runtime/tensor.h"

namespace cimq::runtime {

/// Throws Error unless the file is a C-ordered little-endian float32 array whose size matches its header.
Tensor read_npy(const std::filesystem::path& path);
/// Parses the bytes of a file; `what` begins every message.
Tensor parse_npy(std::span<const std::uint8_t> file, const std::string& what);

/// Writes format 1.0 as write_file does (file.h).
void write_npy(const std::filesystem::path& path, const Tensor& tensor);

}  // namespace cimq::runtime
