#include "common/printable.h"

#include <cstdint>

namespace cimq {
namespace {

/// Length of the UTF-8 character at the start of `text` and its code point; 0 where there is none.
std::size_t character_at(std::string_view text, std::uint32_t& code) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  code = first;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  code = first & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return 0;
    code = code << 6U | (byte(i) & 0x3fU);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code > 0x10ffff ? 0 : length;
}

void append_hex(std::string& result, std::uint32_t value, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) {
    result += "0123456789abcdef"[(value >> static_cast<unsigned>(shift)) & 0xfU];
  }
}

/// C0, DEL, C1; line and paragraph separators; marks that reverse the direction of what follows.
bool is_control(std::uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x2069);
}

std::string escaped(std::string_view text, bool keep_lines, std::size_t max_length) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size() && at < max_length) {
    std::uint32_t code = 0;
    const std::size_t length = character_at(text.substr(at), code);
    if (length == 0) {
      result += "\\x";
      append_hex(result, static_cast<unsigned char>(text[at++]), 2);
      continue;
    }
    if (!is_control(code) || (keep_lines && (code == '\n' || code == '\t'))) {
      result += text.substr(at, length);
    } else if (code == '\n') {
      result += "\\n";
    } else if (code < 0x80) {
      result += "\\x";
      append_hex(result, code, 2);
    } else {
      result += "\\u";
      append_hex(result, code, 4);
    }
    at += length;
  }
  if (at < text.size()) result += "...";
  return result;
}

}  // namespace

std::string printable(std::string_view text, std::size_t max_length) { return escaped(text, false, max_length); }

std::string printable_lines(std::string_view text) { return escaped(text, true, std::string_view::npos); }

}  // namespace cimq
