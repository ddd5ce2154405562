#include "emulated_device/generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <array>
#include <utility>

#include "emulated_device/devices.h"

namespace cimq::emulated_device {
namespace {

class DeviceGenerator : public c10::GeneratorImpl {
 public:
  DeviceGenerator(int index, at::Generator host)
      : GeneratorImpl(emulated_device::device(index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host_(std::move(host)) {}

  void set_current_seed(uint64_t seed) override { host_.set_current_seed(seed); }
  void set_offset(uint64_t offset) override { host_.set_offset(offset); }
  uint64_t get_offset() const override { return host_.get_offset(); }
  uint64_t current_seed() const override { return host_.current_seed(); }
  uint64_t seed() override { return host_.seed(); }
  void set_state(const c10::TensorImpl& state) override { host_.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return host_.unsafeGetGeneratorImpl()->get_state(); }

  const at::Generator& host() const { return host_; }

 private:
  DeviceGenerator* clone_impl() const override { return new DeviceGenerator(device().index(), host_.clone()); }

  mutable at::Generator host_;
};

}  // namespace

at::Generator new_generator(int index) {
  return at::make_generator<DeviceGenerator>(index, at::make_generator<at::CPUGeneratorImpl>());
}

const at::Generator& default_generator(int index) {
  static auto* all = new std::array<at::Generator, kDevices>([] {
    std::array<at::Generator, kDevices> made;
    for (int i = 0; i < kDevices; ++i) made[static_cast<std::size_t>(i)] = new_generator(i);
    return made;
  }());
  return all->at(static_cast<std::size_t>(index));
}

at::Generator host_generator(const at::Generator& generator) {
  if (generator.device().type() != kType) return generator;
  return generator.get<DeviceGenerator>()->host();
}

}  // namespace cimq::emulated_device
