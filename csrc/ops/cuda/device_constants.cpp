#include "ops/cuda/device_constants.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <mutex>
#include <set>
#include <vector>

#include "ops/cuda/torch_device.h"
#include "ops/support/program_cache.h"

namespace cimq::ops {
namespace {

constexpr CacheLimits kCacheLimits{std::size_t{128} << 20, std::size_t{1} << 12};

/// What captured graphs read: nobody can tell when the last of them goes.
void keep_for_graphs(const std::shared_ptr<const DeviceConstants>& constants) {
  static auto* mutex = new std::mutex;  // threads may outlive static destructors
  static auto* kept = new std::set<std::shared_ptr<const DeviceConstants>>;
  const std::lock_guard<std::mutex> lock(*mutex);
  kept->insert(constants);
}

}  // namespace

DeviceConstants::DeviceConstants(const std::byte* bytes, std::size_t count, const at::Device& device) {
  const auto size = static_cast<std::int64_t>(count);
  at::Tensor source = at::empty({size}, at::kByte);
  if (count != 0) std::memcpy(source.mutable_data_ptr(), bytes, count);
  bytes_ = source.to(device);  // from memory that is not pinned: returns when it is done
}

const std::byte* DeviceConstants::read(const std::shared_ptr<const DeviceConstants>& constants) {
  const at::Tensor& bytes = constants->bytes_;
  const c10::impl::VirtualGuardImpl device(kDeviceType);
  device.recordDataPtrOnStream(bytes.storage().data_ptr(), device.getStream(bytes.device()));
  if (is_capturing()) keep_for_graphs(constants);
  return static_cast<const std::byte*>(bytes.const_data_ptr());
}

at::Tensor DeviceConstants::tensor(const std::shared_ptr<const DeviceConstants>& constants) {
  read(constants);
  return constants->bytes_;
}

std::shared_ptr<const DeviceConstants> constants_on(const char* op, const at::Device& device, const std::byte* bytes,
                                                    std::size_t count) {
  static auto& cache = listed_cache<ProgramCache<DeviceConstants>>("device_constants", kCacheLimits);
  ProgramKey key;
  key.add(device.index());
  key.set_weights(reinterpret_cast<const std::int8_t*>(bytes), count);
  return cache.get(key, [&](const std::int8_t* kept) {
    TORCH_CHECK(!is_capturing(), op,
                ": constants of this layer are not on the device yet, and cannot be copied there while a graph is "
                "captured: call it once with the same shapes and machine before");
    return std::make_shared<const DeviceConstants>(reinterpret_cast<const std::byte*>(kept), count, device);
  });
}

namespace {

/// Arrays of tables as the device has them, one behind another.
template <typename Visit>
void for_each_array(const kernels::CellTables& tables, const Visit& visit) {
  visit(tables.nodes());
  visit(tables.offsets());
  visit(tables.fixed());
  visit(tables.drift_nodes());
}

}  // namespace

DeviceCellTables::DeviceCellTables(const char* op, const Hardware& hardware, const at::Device& device)
    : tables_(kernels::CellTables::of(hardware)) {
  std::vector<std::int32_t> all;
  for_each_array(*tables_, [&](const auto& values) { all.insert(all.end(), values.begin(), values.end()); });
  constants_ = constants_on(op, device, reinterpret_cast<const std::byte*>(all.data()), all.size() * sizeof(all[0]));
}

kernels::CellTablesView DeviceCellTables::read() const {
  const auto* next = reinterpret_cast<const std::int32_t*>(DeviceConstants::read(constants_));
  const std::int32_t* arrays[4] = {};
  std::size_t count = 0;
  for_each_array(*tables_, [&](const auto& values) {
    arrays[count++] = values.empty() ? nullptr : next;
    next += values.size();
  });
  kernels::CellTablesView view = tables_->view();
  view.nodes = arrays[0];
  view.offsets = arrays[1];
  view.fixed = arrays[2];
  view.drift = arrays[3];
  return view;
}

}  // namespace cimq::ops
