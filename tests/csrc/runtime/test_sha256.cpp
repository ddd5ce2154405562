#include <catch2/catch.hpp>
#include <string>

#include "runtime/sha256.h"

using cimq::runtime::Sha256;

namespace {

std::span<const std::uint8_t> view(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("SHA-256 gives the digests of FIPS 180-4", "[sha256]") {
  CHECK(cimq::runtime::sha256_hex(view("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(cimq::runtime::sha256_hex(view("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(cimq::runtime::sha256_hex(view("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(cimq::runtime::sha256_hex(view(std::string(1'000'000, 'a'))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256 does not depend on how the bytes are split", "[sha256]") {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 31);
  for (std::size_t length : {0U, 1U, 55U, 56U, 63U, 64U, 65U, 119U, 128U, 300U}) {
    const std::string part = text.substr(0, length);
    const std::string whole = cimq::runtime::sha256_hex(view(part));
    for (const std::size_t step : {1U, 7U, 64U}) {
      Sha256 hash;
      for (std::size_t at = 0; at < part.size(); at += step)
        hash.update(view(part).subspan(at, std::min(step, part.size() - at)));
      CHECK(hash.hex() == whole);
    }
  }
}
