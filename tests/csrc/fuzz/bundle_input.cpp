#include "bundle_input.h"

#include <algorithm>

#include "common/error.h"

namespace cimq::testing {

BundleInput::BundleInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kHead = 5;
  while (size >= kHead) {
    const std::string& name = kFuzzedFiles[data[0] % kFuzzedFiles.size()];
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length |= std::size_t{data[1 + i]} << (8 * i);
    length = std::min(length, size - kHead);
    files[name].assign(data + kHead, data + kHead + length);
    data += kHead + length;
    size -= kHead + length;
  }
}

std::vector<std::uint8_t> BundleInput::packed() const {
  std::vector<std::uint8_t> result;
  for (std::size_t number = 0; number < kFuzzedFiles.size(); ++number) {
    const auto file = files.find(kFuzzedFiles[number]);
    if (file == files.end()) continue;
    result.push_back(static_cast<std::uint8_t>(number));
    for (std::size_t i = 0; i < 4; ++i) result.push_back(static_cast<std::uint8_t>(file->second.size() >> (8 * i)));
    result.insert(result.end(), file->second.begin(), file->second.end());
  }
  return result;
}

std::uint64_t BundleInput::size_of(const std::string& name) const {
  const auto file = files.find(name);
  return file == files.end() ? 0 : file->second.size();
}

std::vector<std::uint8_t> BundleInput::read(const std::string& name) const {
  const auto file = files.find(name);
  check(file != files.end(), "manifest.json: the bundle lists no file '", name, "'");
  return file->second;
}

}  // namespace cimq::testing
