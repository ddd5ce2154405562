#include "runtime/npy.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "common/error.h"
#include "compiler/frontends/strict_json.h"
#include "runtime/file.h"

namespace cimq::runtime {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr std::uint64_t kMaxFile = std::uint64_t{1} << 36;

/// Value text of `key` in the header's Python dictionary literal, which numpy writes in one fixed form.
std::string_view entry(std::string_view header, std::string_view key, const std::string& what) {
  const std::string quoted = message("'", key, "':");
  const std::size_t at = header.find(quoted);
  check(at != std::string_view::npos, what, ": the .npy header lacks '", key, "'");
  std::string_view rest = header.substr(at + quoted.size());
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return rest;
}

std::vector<std::int64_t> parse_shape(std::string_view text, const std::string& what) {
  const std::size_t close = text.find(')');
  check(!text.empty() && text.front() == '(' && close != std::string_view::npos, what,
        ": the shape in the .npy header must be a tuple");
  text = text.substr(1, close - 1);
  std::vector<std::int64_t> shape;
  while (!text.empty()) {
    if (text.front() == ' ' || text.front() == ',') {
      text.remove_prefix(1);
      continue;
    }
    std::int64_t dim = -1;
    const auto [next, status] = std::from_chars(text.data(), text.data() + text.size(), dim);
    check(status == std::errc() && dim >= 0 && shape.size() < 32, what, ": the shape in the .npy header is not valid");
    shape.push_back(dim);
    text.remove_prefix(static_cast<std::size_t>(next - text.data()));
  }
  return shape;
}

}  // namespace

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += message(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

Tensor parse_npy(std::span<const std::uint8_t> file, const std::string& what) {
  check(file.size() >= 10 && std::memcmp(file.data(), kMagic.data(), kMagic.size()) == 0, what, ": not a .npy file");
  const int major = file[6];
  check(major == 1 || major == 2, what, ": .npy format ", major, " is not supported (1 and 2 are)");
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  const std::size_t start = 8 + length_bytes;
  check(file.size() >= start, what, ": the .npy header is cut short");
  std::uint32_t header_size = 0;
  std::memcpy(&header_size, file.data() + 8, length_bytes);
  check(header_size <= file.size() - start, what, ": the .npy header is cut short");
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + start, header_size);

  check(entry(header, "descr", what).starts_with("'<f4'"), what, ": must hold float32 ('<f4'), got ",
        compiler::shown(entry(header, "descr", what).substr(0, 8)), "; convert with x.astype(numpy.float32)");
  check(entry(header, "fortran_order", what).starts_with("False"), what,
        ": must be in C order; convert with numpy.ascontiguousarray");
  Tensor tensor;
  tensor.shape = parse_shape(entry(header, "shape", what), what);

  const std::size_t bytes = file.size() - start - header_size;
  const std::uint64_t limit = bytes / sizeof(float);
  const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end();
  std::uint64_t count = empty ? 0 : 1;
  for (const std::int64_t dim : tensor.shape) {
    if (empty) break;
    check(count <= limit / static_cast<std::uint64_t>(dim), what, ": the data is cut short for shape ",
          shape_text(tensor.shape));
    count *= static_cast<std::uint64_t>(dim);
  }
  check(count * sizeof(float) == bytes, what, ": shape ", shape_text(tensor.shape), " needs ", count * sizeof(float),
        " bytes of data, the file has ", bytes);
  tensor.data.resize(count);
  if (count > 0) std::memcpy(tensor.data.data(), file.data() + start + header_size, bytes);
  return tensor;
}

Tensor read_npy(const std::filesystem::path& path) { return parse_npy(read_file(path, kMaxFile), path.string()); }

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  std::string shape = "(";
  for (const std::int64_t dim : tensor.shape) shape += message(dim, ", ");
  if (tensor.shape.size() > 1) shape.resize(shape.size() - 2);  // numpy keeps the comma for one dimension only
  if (tensor.shape.size() == 1) shape.pop_back();
  std::string header = message("{'descr': '<f4', 'fortran_order': False, 'shape': ", shape, "), }");
  // The data must start at a multiple of 64 bytes: 10 bytes of prefix, the header, a newline.
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  check(header.size() <= 0xffff, path.string(), ": the shape has too many dimensions for a .npy header");

  std::vector<std::uint8_t> file(kMagic.begin(), kMagic.end());
  const std::uint8_t prefix[] = {1, 0, static_cast<std::uint8_t>(header.size() & 0xff),
                                 static_cast<std::uint8_t>(header.size() >> 8)};
  file.insert(file.end(), std::begin(prefix), std::end(prefix));
  file.insert(file.end(), header.begin(), header.end());
  const auto* data = reinterpret_cast<const std::uint8_t*>(tensor.data.data());
  file.insert(file.end(), data, data + tensor.data.size() * sizeof(float));
  write_file(path, file);
}

}  // namespace cimq::runtime
