// Reader of safetensors files: 8 bytes header length (little endian), a JSON header, raw data.
// https://huggingface.co/docs/safetensors. Nothing in the file is trusted: memory is bounded by the file's size.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace cimq::runtime {

/// One tensor of a file; `bytes` points into the file's buffer and may be unaligned.
struct TensorView {
  std::string dtype;  ///< "F32", "I8", "I32", ... as in the file
  std::vector<std::int64_t> shape;
  std::span<const std::uint8_t> bytes;

  std::int64_t elements() const;
};

class Safetensors {
 public:
  /// Parses `file`. `what` begins every message. Throws Error unless header, offsets, shapes and sizes agree: offsets
  /// within the file, no overlap, no hole.
  Safetensors(std::vector<std::uint8_t> file, const std::string& what);

  // The views point into file_, whose buffer stays where it is when the object moves.
  Safetensors(Safetensors&&) = default;
  Safetensors& operator=(Safetensors&&) = default;
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;
  ~Safetensors() = default;

  bool contains(const std::string& name) const { return tensors_.contains(name); }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  /// Throws Error if there is no such tensor.
  const TensorView& at(const std::string& name) const;

  /// The values of a tensor that must have this type (float, double, std::int8_t or std::int32_t).
  template <typename T>
  std::vector<T> values(const std::string& name) const;

 private:
  std::string what_;
  std::vector<std::uint8_t> file_;
  std::map<std::string, TensorView> tensors_;
};

}  // namespace cimq::runtime
