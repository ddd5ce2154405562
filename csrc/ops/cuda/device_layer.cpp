#include "ops/cuda/device_layer.h"

#include "kernels/programmed_cells.h"
#include "ops/cuda/work_memory.h"

namespace cimq::ops {
namespace {

/// Of the cells of several chips.
constexpr std::int64_t kMostBytes = std::int64_t{256} << 20;
/// What a grid has in its second dimension, where chips are.
constexpr std::int64_t kMostChips = 65535;

}  // namespace

DeviceProgrammer::DeviceProgrammer(const DeviceCall& call, const CrossbarArgs& args,
                                   const kernels::cuda::MvmLayer& layer,
                                   const std::shared_ptr<const DeviceConstants>& constants,
                                   const std::optional<DeviceCellTables>& tables, const at::Tensor& w)
    : call_(call), args_(args), layer_(layer), constants_(constants), tables_(tables), w_(w) {}

int DeviceProgrammer::chips_at_once(int chips) const {
  const auto fitting = kMostBytes / static_cast<std::int64_t>(layer_.chip_bytes());
  return static_cast<int>(std::clamp<std::int64_t>(fitting, 1, std::min<std::int64_t>(chips, kMostChips)));
}

kernels::cuda::DeviceImage DeviceProgrammer::program(int first, int count) {
  const auto bytes = static_cast<std::int64_t>(layer_.programmed_bytes(count));
  if (!programmed_.defined() || programmed_.numel() < bytes) {
    programmed_ = at::empty({bytes}, w_.options().dtype(at::kByte));
  }
  auto* programmed = static_cast<std::byte*>(programmed_.mutable_data_ptr());
  const auto* w = static_cast<const std::int8_t*>(w_.const_data_ptr());
  for (int chip = 0; chip < count; ++chip) {
    const std::int16_t* conductances = conductances_of(first + chip);
    call_.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::program_matrices(layer_, chip, w, conductances, programmed, stream);
    });
  }
  return {programmed, DeviceConstants::read(constants_), count, static_cast<std::uint32_t>(first)};
}

/// What the cells of a chip conduct; null where they are levels.
const std::int16_t* DeviceProgrammer::conductances_of(int chip) {
  if (!layer_.plan().fractional) return nullptr;
  const kernels::MvmPlan& plan = layer_.plan();
  if (!conductances_.defined()) {
    conductances_ = at::empty({plan.n_w, plan.polarities(), layer_.groups() * plan.outputs, plan.inputs},
                              w_.options().dtype(at::kShort));
    work_memory_ = programming_memory(*args_.hardware, plan, layer_.groups(), w_);
  }
  kernels::MvmOptions options = args_.options;
  options.chip = static_cast<std::uint32_t>(chip);
  auto* cells = conductances_.mutable_data_ptr<std::int16_t>();
  call_.run([&](kernels::cuda::Stream stream) {
    kernels::cuda::programmed_cells(*args_.hardware, tables_->read(), plan, layer_.groups(), options,
                                    static_cast<const std::int8_t*>(w_.const_data_ptr()), cells,
                                    work_memory(work_memory_), stream);
  });
  return cells;
}

}  // namespace cimq::ops
