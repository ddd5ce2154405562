// The lines of a program as text, for tests that change one of them.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <sstream>
#include <string>
#include <vector>

namespace cimq::test {

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

inline std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

inline std::size_t find_line(const std::vector<std::string>& lines, const std::string& part) {
  const auto found =
      std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.find(part) != std::string::npos; });
  REQUIRE(found != lines.end());
  return static_cast<std::size_t>(found - lines.begin());
}

/// Replaces `from` by `to` in the first line that holds `in`.
inline std::vector<std::string> changed(std::vector<std::string> lines, const std::string& in, const std::string& from,
                                        const std::string& to) {
  std::string& line = lines[find_line(lines, in)];
  const std::size_t at = line.find(from);
  REQUIRE(at != std::string::npos);
  line.replace(at, from.size(), to);
  return lines;
}

}  // namespace cimq::test
