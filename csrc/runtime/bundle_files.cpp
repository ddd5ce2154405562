#include "runtime/bundle_files.h"

#include "common/error.h"

namespace cimq::runtime {

std::string BundleFiles::read_text(const std::string& name) const {
  const std::uint64_t size = size_of(name);
  check(size <= kMaxText, name, ": has ", size, " bytes, at most ", kMaxText, " are expected");
  const auto bytes = read(name);
  return {bytes.begin(), bytes.end()};
}

}  // namespace cimq::runtime
