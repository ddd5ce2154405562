// Bytes that calls read on a device again and again, kept there once for all calls that need the same ones. What they
// are does not depend on any tensor, so that they are never out of date.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>

#include "common/hardware.h"
#include "kernels/noise/cell_noise.h"

namespace cimq::ops {

class DeviceConstants {
 public:
  /// Waits until the bytes have arrived: calls on any stream may read them.
  DeviceConstants(const std::byte* bytes, std::size_t count, const at::Device& device);

  /// The bytes, for work on the current stream that is started now: their memory is not used again before it is done.
  /// A graph that is being captured may read them as long as the process lives.
  static const std::byte* read(const std::shared_ptr<const DeviceConstants>& constants);

  /// They as a tensor of bytes, as read() gives them.
  static at::Tensor tensor(const std::shared_ptr<const DeviceConstants>& constants);

  std::int64_t packed_bytes() const { return bytes_.numel(); }

 private:
  at::Tensor bytes_;
};

/// Those with the given bytes. Throws a RuntimeError naming `op` where they would have to be copied to the device while
/// a graph is captured.
std::shared_ptr<const DeviceConstants> constants_on(const char* op, const at::Device& device, const std::byte* bytes,
                                                    std::size_t count);

/// What the cells of a machine are sampled from, on a device.
class DeviceCellTables {
 public:
  DeviceCellTables(const char* op, const Hardware& hardware, const at::Device& device);
  /// As DeviceConstants::read.
  kernels::CellTablesView read() const;

 private:
  std::shared_ptr<const kernels::CellTables> tables_;
  std::shared_ptr<const DeviceConstants> constants_;
};

}  // namespace cimq::ops
