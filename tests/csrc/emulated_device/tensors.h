// Tensors of the emulated devices: how they are made, seen and copied.
#pragma once

#include <c10/core/Storage.h>

#include <cstddef>

namespace cimq::emulated_device {

/// Gives a storage of a device `bytes` bytes; what it holds stays.
void resize_storage(const c10::Storage& storage, std::size_t bytes);

}  // namespace cimq::emulated_device
