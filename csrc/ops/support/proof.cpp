#include "ops/support/proof.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <array>
#include <atomic>
#include <exception>
#include <mutex>

#include "common/lru_entries.h"
#include "ops/support/caches.h"
#include "ops/support/notices.h"

namespace cimq::ops {
namespace {

struct PrimitiveNames {
  const char* name;     ///< in notices
  const char* setting;  ///< of the operator for tests
  const char* instead;
};

constexpr std::array<PrimitiveNames, 3> kNames{{
    {"oneDNN's convolution of bytes", "int8_conv2d", "cimq's own int8 kernels"},
    {"oneDNN's float32 convolution of integers", "float_conv2d", "cimq's own int8 kernels"},
    {"torch's product of matrices of integers", "float_matmul", "cimq's own int8 kernels"},
}};

std::size_t index_of(Primitive primitive) { return static_cast<std::size_t>(primitive); }

struct Proof {
  std::string key;
  bool exact;
};

class Proofs : public LockedEntries<Proof> {
 public:
  Proofs() : LockedEntries({std::size_t{16} << 20, std::size_t{1} << 14}) {}

  std::optional<bool> find(const std::string& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Proof* entry = entries_.find(std::hash<std::string>()(key), [&](const Proof& e) { return e.key == key; });
    return entry == nullptr ? std::nullopt : std::optional<bool>(entry->exact);
  }

  void add(const std::string& key, bool exact) {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_.add(std::hash<std::string>()(key), {key, exact}, key.size());
  }
};

Proofs& proofs() {
  static Proofs& all = listed_cache<Proofs>("proofs");
  return all;
}

struct State {
  std::mutex trial;
  std::array<std::atomic<bool>, kNames.size()> said{};
  std::array<std::atomic<Disturbance>, kNames.size()> disturbances{};
};

State& state() {
  static auto* only = new State;  // threads may outlive static destructors
  return *only;
}

void append(std::string& text, std::int64_t value) { text += std::to_string(value); }

Fault tried(const std::function<Fault()>& trial) {
  try {
    return trial();
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return "it raises: " + text.substr(0, text.find('\n'));
  }
}

}  // namespace

std::optional<Primitive> primitive_of(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames.at(i).setting) return static_cast<Primitive>(i);
  }
  return std::nullopt;
}

ProductGeometry::ProductGeometry(Primitive primitive) : primitive_(primitive) {}

ProductGeometry& ProductGeometry::add(std::string_view name, at::IntArrayRef values) {
  if (!shapes_.empty()) shapes_ += ", ";
  shapes_ += name;
  shapes_ += " [";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) shapes_ += ", ";
    append(shapes_, values[i]);
  }
  shapes_ += ']';
  return *this;
}

ProductGeometry& ProductGeometry::add(std::string_view name, std::int64_t value) {
  if (!shapes_.empty()) shapes_ += ", ";
  shapes_ += name;
  shapes_ += ' ';
  append(shapes_, value);
  return *this;
}

std::string ProductGeometry::key() const {
  const at::Context& context = at::globalContext();
  const auto precision = [&](at::Float32Op op) {
    return static_cast<std::int64_t>(context.float32Precision(at::Float32Backend::MKLDNN, op));
  };
  std::string key = kNames.at(index_of(primitive_)).setting;
  key += shapes_;
  for (const std::int64_t setting :
       {static_cast<std::int64_t>(at::get_num_threads()), static_cast<std::int64_t>(context.deterministicMkldnn()),
        static_cast<std::int64_t>(context.userEnabledMkldnn()), precision(at::Float32Op::CONV),
        precision(at::Float32Op::MATMUL), static_cast<std::int64_t>(at::in_parallel_region())}) {
    key += ';';
    append(key, setting);
  }
  return key;
}

bool proven(const ProductGeometry& geometry, const std::function<Fault()>& trial) {
  const std::string key = geometry.key();
  if (const std::optional<bool> known = proofs().find(key)) return *known;
  Fault fault;
  {
    const std::lock_guard<std::mutex> lock(state().trial);
    if (const std::optional<bool> known = proofs().find(key)) return *known;
    fault = tried(trial);
    proofs().add(key, !fault.has_value());
  }
  const PrimitiveNames& names = kNames.at(index_of(geometry.primitive()));
  if (fault.has_value() && !state().said.at(index_of(geometry.primitive())).exchange(true)) {
    notice(std::string(names.name) + " is not exact on this machine for " + geometry.shapes() + ": " + *fault + ". " +
           names.instead +
           " take its place for this geometry and for any other that fails, which is exact and slower; this is said "
           "once");
  }
  return !fault.has_value();
}

void disturb(Primitive primitive, Disturbance disturbance) {
  state().disturbances.at(index_of(primitive)) = disturbance;
  state().said.at(index_of(primitive)) = false;
  proofs().clear();
}

void apply_disturbance(Primitive primitive, const at::Tensor& x, at::Tensor& y, const std::function<double()>& unit) {
  const Disturbance disturbance = state().disturbances.at(index_of(primitive));
  if (disturbance == Disturbance::kNone || y.numel() == 0) return;
  at::Tensor one = y.as_strided({1}, {1}, y.storage_offset());
  const double size = unit() * (y.scalar_type() == at::kBFloat16 ? 0x1p20 : 1.0);  // bfloat16 rounds a unit away
  if (disturbance == Disturbance::kSum) {
    one.add_(size);
    return;
  }
  // Only ever reached with guarded operands: their products fail the trial, and others are not computed.
  const auto* behind = static_cast<const std::uint8_t*>(x.const_data_ptr()) + x.nbytes();
  one.add_(size * (*behind == 0xFF ? 1.0 : 0.0));
}

}  // namespace cimq::ops
