// Random numbers of the emulated devices: a generator of the CPU each, so that a seed gives the numbers of the CPU,
// from a state that is the device's own.
#pragma once

#include <ATen/core/Generator.h>

namespace cimq::emulated_device {

/// The generator of a device that is used where none is given.
const at::Generator& default_generator(int index);

at::Generator new_generator(int index);

/// The generator of the CPU behind one of a device; one of the CPU as it is.
at::Generator host_generator(const at::Generator& generator);

}  // namespace cimq::emulated_device
