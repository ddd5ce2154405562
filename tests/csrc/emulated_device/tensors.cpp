#include "emulated_device/tensors.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/is_set_to_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_as_complex_native.h>
#include <ATen/ops/view_as_real_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "emulated_device/devices.h"

namespace cimq::emulated_device {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

c10::Allocator* allocator() { return c10::GetAllocator(kType); }

void check_options(std::optional<at::Layout> layout, std::optional<bool> pin_memory) {
  TORCH_CHECK(layout.value_or(at::kStrided) == at::kStrided, "emulated device: tensors are dense, got layout ",
              layout.value_or(at::kStrided));
  TORCH_CHECK(!pin_memory.value_or(false), "emulated device: only memory of the CPU can be pinned");
}

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
                 std::optional<at::Device> device, std::optional<bool> pin_memory,
                 std::optional<at::MemoryFormat> memory_format) {
  check_options(layout, pin_memory);
  const c10::DeviceGuard guard(emulated_device::device(checked_index(device.value_or(at::Device(kType)))));
  return at::detail::empty_generic(size, allocator(), kKeys, c10::dtype_or_default(dtype), memory_format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout> layout, std::optional<at::Device> device,
                         std::optional<bool> pin_memory) {
  check_options(layout, pin_memory);
  const c10::DeviceGuard guard(emulated_device::device(checked_index(device.value_or(at::Device(kType)))));
  return at::detail::empty_strided_generic(size, stride, allocator(), kKeys, c10::dtype_or_default(dtype));
}

/// The same values as a tensor of the CPU.
at::Tensor on_host(const at::Tensor& tensor) {
  TORCH_CHECK(!tensor.is_conj() && !tensor.is_neg(), "emulated device: views that conjugate or negate are not copied");
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(host_view(tensor.data_ptr()), tensor.sizes(), tensor.strides(),
                       tensor.options().device(at::kCPU));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool /*non_blocking*/) {
  if (from.is_cpu() != to.is_cpu()) {
    wait_for_device("a copy from " + from.device().str() + " to " + to.device().str());
  }
  on_host(to).copy_(on_host(from));
  return to;
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> memory_format) {
  c10::TensorImpl* impl = self.unsafeGetTensorImpl();
  if (self.sizes() != size) {
    impl->set_sizes_contiguous(size);
    const auto items = static_cast<std::size_t>(self.storage_offset() + self.numel());
    const std::size_t needed = self.numel() == 0 ? 0 : items * self.element_size();
    if (needed > self.storage().nbytes()) resize_storage(self.storage(), needed);
  }
  if (memory_format.has_value()) {
    TORCH_CHECK(*memory_format != at::MemoryFormat::Preserve, "resize_: cannot preserve a memory format");
    impl->empty_tensor_restride(*memory_format);
  }
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  resize(to, from.sizes(), std::nullopt);
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  wait_for_device("item()");
  return on_host(self).item();
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, std::int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  const auto first = static_cast<std::size_t>(offset);
  const std::size_t needed = stride.data() == nullptr
                                 ? at::detail::computeStorageNbytesContiguous(size, self.element_size(), first)
                                 : at::detail::computeStorageNbytes(size, stride, self.element_size(), first);
  if (needed > source.nbytes()) resize_storage(source, needed);
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

at::Tensor& set_empty(at::Tensor& self) {
  const c10::DeviceGuard guard(self.device());
  c10::Storage storage(c10::Storage::use_byte_size_t(), 0, allocator(), true);
  return set_storage(self, std::move(storage), 0, {0}, {});
}

}  // namespace

void resize_storage(const c10::Storage& storage, std::size_t bytes) {
  const c10::DeviceGuard guard(storage.device());
  c10::DataPtr data = allocator()->allocate(bytes);
  allocator()->copy_data(data.get(), storage.data(), std::min(bytes, storage.nbytes()));
  c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  impl->set_data_ptr_noswap(std::move(data));
  impl->set_nbytes(bytes);
}

}  // namespace cimq::emulated_device

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  namespace emulated = cimq::emulated_device;
  m.impl("empty.memory_format", TORCH_FN(emulated::empty));
  m.impl("empty_strided", TORCH_FN(emulated::empty_strided));
  m.impl("_copy_from", TORCH_FN(emulated::copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(emulated::copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(emulated::local_scalar));
  m.impl("resize_", TORCH_FN(emulated::resize));
  m.impl("set_", TORCH_FN(emulated::set_empty));
  m.impl("set_.source_Storage", TORCH_FN(static_cast<at::Tensor& (*)(at::Tensor&, at::Storage)>(at::native::set_)));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(emulated::set_storage));
  m.impl("set_.source_Tensor", TORCH_FN(at::native::set_tensor_));
  // Views are the CPU's: they look at shapes alone.
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("view_as_real", TORCH_FN(at::native::view_as_real));
  m.impl("view_as_complex", TORCH_FN(at::native::view_as_complex));
  m.impl("is_set_to", TORCH_FN(at::native::is_set_to));
}
