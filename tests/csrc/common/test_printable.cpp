#include <catch2/catch.hpp>
#include <string>

#include "common/printable.h"

using cimq::printable;
using cimq::printable_lines;

TEST_CASE("Control characters become escapes", "[printable]") {
  CHECK(printable("conv1.weight") == "conv1.weight");
  CHECK(printable("\x1b[31mred\x07") == R"(\x1b[31mred\x07)");
  CHECK(printable("a: 3 values, equal\ncheck passed") == R"(a: 3 values, equal\ncheck passed)");
  CHECK(printable("\x7f\r\t") == R"(\x7f\x0d\x09)");
  CHECK(printable(std::string("a\0b", 3)) == R"(a\x00b)");
  CHECK(printable("\xc2\x9b"
                  "31m") == R"(\u009b31m)");  // C1: the one-character form of ESC [
  CHECK(printable("\xe2\x80\xae"
                  "evil") == R"(\u202eevil)");  // right-to-left override
  CHECK(printable("gr\xc3\xb6\xc3\x9f"
                  "e \xe2\x82\xac \xf0\x9f\x98\x80") ==
        "gr\xc3\xb6\xc3\x9f"
        "e \xe2\x82\xac \xf0\x9f\x98\x80");
  CHECK(printable_lines("one\n\ttwo\x1b") == "one\n\ttwo\\x1b");
}

TEST_CASE("Bytes that are no UTF-8 become escapes", "[printable]") {
  CHECK(printable("\xff") == R"(\xff)");
  CHECK(printable("\x9b") == R"(\x9b)");
  CHECK(printable("\xc3") == R"(\xc3)");                          // cut short
  CHECK(printable("\xc0\x9b") == R"(\xc0\x9b)");                  // overlong
  CHECK(printable("\xed\xa0\x80") == R"(\xed\xa0\x80)");          // a surrogate
  CHECK(printable("\xf4\x90\x80\x80") == R"(\xf4\x90\x80\x80)");  // beyond the last code point
}

TEST_CASE("Long text is cut at a character", "[printable]") {
  CHECK(printable("abcdef", 3) == "abc...");
  CHECK(printable("abc", 3) == "abc");
  CHECK(printable("ab\xc3\xb6z", 3) == "ab\xc3\xb6...");
}
