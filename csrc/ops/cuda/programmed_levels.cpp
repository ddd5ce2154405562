#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/programmed_cells.h"
#include "ops/cuda/crossbar_operands.h"
#include "ops/cuda/device_constants.h"
#include "ops/cuda/work_memory.h"
#include "ops/support/checks.h"
#include "ops/support/programmed_levels_args.h"

namespace cimq::ops {
namespace {

constexpr const char* kName = kProgrammedLevels.name;

at::Tensor programmed_levels_cuda(const at::Tensor& w_q, const CrossbarCall& call) {
  check_cuda(kName, "w_q", w_q, w_q);
  const DeviceCall device(w_q, kName);
  const LevelsRequest request = parse_levels(kName, w_q, call);
  refuse_reference(kName, request.args);
  NarrowedOperands operands(kName, device);
  const at::Tensor w = operands.add_weights(w_q, call);
  operands.check();
  const kernels::MvmPlan& plan = request.plan;
  const auto* weights = static_cast<const std::int8_t*>(w.const_data_ptr());
  const std::vector<std::int64_t> shape{plan.n_w, plan.polarities(), plan.outputs, plan.inputs};
  return translate_errors(kName, [&] {
    if (plan.fractional) {
      const DeviceCellTables tables(kName, request.machine, w.device());
      const at::Tensor cells = at::empty(shape, w.options().dtype(at::kShort));
      const at::Tensor memory = programming_memory(request.machine, plan, 1, w);
      device.run([&](kernels::cuda::Stream stream) {
        kernels::cuda::programmed_cells(request.machine, tables.read(), plan, 1, request.args.options, weights,
                                        cells.mutable_data_ptr<std::int16_t>(), work_memory(memory), stream);
      });
      return cells.to(at::kInt);
    }
    const at::Tensor cells = at::empty(shape, w.options().dtype(at::kInt));
    device.run([&](kernels::cuda::Stream stream) {
      kernels::cuda::certain_cells(plan, request.base, weights, cells.mutable_data_ptr<std::int32_t>(), stream);
    });
    return cells;
  });
}

void run(const TakenCall& taken, torch::jit::Stack& results) {
  torch::jit::push(results, programmed_levels_cuda(taken.operands[0], taken.call));
}

}  // namespace
}  // namespace cimq::ops

TORCH_LIBRARY_IMPL(cimq, CIMQ_DEVICE_KEY, m) {
  using namespace cimq::ops;
  m.impl(kProgrammedLevels.name, torch::CppFunction::makeFromBoxedFunction<&boxed_kernel<kProgrammedLevels, run>>());
}
