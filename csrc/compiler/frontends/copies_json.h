// Copies of layers as a file states them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace cimq::compiler {

/// {"conv1": 8, ...}: the name of a layer, how many copies of its tiles there are. Throws Error naming the layer for
/// what is no whole number from 1 on.
std::map<std::string, std::int64_t> read_copies(std::string_view text);

}  // namespace cimq::compiler
