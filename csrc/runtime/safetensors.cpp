#include "runtime/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "common/error.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little endian");

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the limit of the format's own readers
constexpr std::size_t kPrefix = 8;
constexpr std::int64_t kMaxDim = std::int64_t{1} << 40;

const std::map<std::string, std::uint64_t>& dtype_sizes() {
  static const std::map<std::string, std::uint64_t> kSizes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2}, {"I16", 2}, {"F16", 2}, {"BF16", 2},
      {"U32", 4},  {"I32", 4}, {"F32", 4}, {"U64", 8}, {"I64", 8}, {"F64", 8}};
  return kSizes;
}

template <typename T>
constexpr const char* dtype_name() {
  if constexpr (std::is_same_v<T, float>) return "F32";
  if constexpr (std::is_same_v<T, double>) return "F64";
  if constexpr (std::is_same_v<T, std::int8_t>) return "I8";
  if constexpr (std::is_same_v<T, std::int32_t>) return "I32";
}

/// Bytes of a tensor, or an Error once the product passes `limit`.
std::uint64_t byte_count(const std::vector<std::int64_t>& shape, std::uint64_t size, std::uint64_t limit,
                         const std::string& where) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::uint64_t total = size;
  for (const std::int64_t dim : shape) {
    check(total <= limit / static_cast<std::uint64_t>(dim), where, ": its shape needs more bytes than the file has");
    total *= static_cast<std::uint64_t>(dim);
  }
  return total;
}

}  // namespace

std::int64_t TensorView::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

Safetensors::Safetensors(std::vector<std::uint8_t> file, const std::string& what)
    : what_(what), file_(std::move(file)) {
  check(file_.size() >= kPrefix, what, ": a safetensors file has at least 8 bytes, got ", file_.size());
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, file_.data(), kPrefix);
  check(header_size <= kMaxHeader && header_size <= file_.size() - kPrefix, what, ": the header is said to have ",
        header_size, " bytes, the file has ", file_.size());
  const std::string_view header(reinterpret_cast<const char*>(file_.data()) + kPrefix, header_size);
  const auto data = std::span<const std::uint8_t>(file_).subspan(kPrefix + header_size);

  const nlohmann::json entries = compiler::parse_strict(header, what);
  check(entries.is_object(), what, ": the header must be a JSON object");
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const auto& [name, entry] : entries.items()) {
    const std::string where = message(what, ": tensor '", compiler::shown(name), "'");
    if (name == "__metadata__") {
      check(entry.is_object() && std::all_of(entry.begin(), entry.end(), [](const auto& v) { return v.is_string(); }),
            what, ": __metadata__ must map texts to texts");
      continue;
    }
    compiler::ObjectReader fields(entry, where);
    TensorView view;
    view.dtype = fields.text("dtype", 16);
    const auto size = dtype_sizes().find(view.dtype);
    check(size != dtype_sizes().end(), where, ": unknown dtype '", compiler::shown(view.dtype), "'");
    view.shape = fields.integers("shape", 0, kMaxDim);
    const auto offsets = fields.integers("data_offsets", 0, INT64_MAX, 2);
    fields.finish();
    const auto begin = static_cast<std::uint64_t>(offsets[0]);
    const auto end = static_cast<std::uint64_t>(offsets[1]);
    check(begin <= end && end <= data.size(), where, ": data_offsets ", begin, "..", end, " do not lie within the ",
          data.size(), " bytes of data");
    const std::uint64_t bytes = byte_count(view.shape, size->second, data.size(), where);
    check(bytes == end - begin, where, ": its shape needs ", bytes, " bytes, data_offsets give ", end - begin);
    view.bytes = data.subspan(begin, bytes);
    ranges.emplace_back(begin, end);
    tensors_.emplace(name, std::move(view));
  }
  std::sort(ranges.begin(), ranges.end());
  std::uint64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    check(begin == covered, what, ": tensors overlap or leave a hole at data byte ", covered);
    covered = end;
  }
  check(covered == data.size(), what, ": ", data.size() - covered, " bytes of data belong to no tensor");
}

const TensorView& Safetensors::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  check(found != tensors_.end(), what_, ": there is no tensor '", compiler::shown(name), "'");
  return found->second;
}

template <typename T>
std::vector<T> Safetensors::values(const std::string& name) const {
  const TensorView& view = at(name);
  check(view.dtype == dtype_name<T>(), what_, ": tensor '", compiler::shown(name), "' must be ", dtype_name<T>(),
        ", got ", view.dtype);
  std::vector<T> result(view.bytes.size() / sizeof(T));
  if (!result.empty()) std::memcpy(result.data(), view.bytes.data(), view.bytes.size());
  return result;
}

template std::vector<float> Safetensors::values(const std::string&) const;
template std::vector<double> Safetensors::values(const std::string&) const;
template std::vector<std::int8_t> Safetensors::values(const std::string&) const;
template std::vector<std::int32_t> Safetensors::values(const std::string&) const;

}  // namespace cimq::runtime
