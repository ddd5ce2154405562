#include "kernels/programmed_cells.h"

#include "kernels/cell_noise.h"
#include "kernels/ir_drop.h"

namespace cimq::kernels {

ProgrammedCells::ProgrammedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options,
                                 const std::int8_t* w)
    : polarities_(plan.polarities()), plane_size_(static_cast<std::size_t>(plan.outputs * plan.inputs)) {
  const CellNoise noise(hardware, options);
  values_.resize(plane_size_ * static_cast<std::size_t>(polarities_ * plan.n_w));
  for (int slice = 0; slice < plan.n_w; ++slice) {
    std::int16_t* const first = values_.data() + static_cast<std::size_t>(slice * polarities_) * plane_size_;
    for (std::int64_t o = 0; o < plan.outputs; ++o) {
      CellNoise::Row row(noise, options.first_output + o, plan.inputs, slice);
      for (std::int64_t k = 0; k < plan.inputs; ++k) {
        const std::int64_t index = o * plan.inputs + k;
        for (int polarity = 0; polarity < polarities_; ++polarity) {
          const std::int32_t level = cell_level(plan, w[index], slice, polarity);
          first[static_cast<std::size_t>(polarity) * plane_size_ + static_cast<std::size_t>(index)] =
              static_cast<std::int16_t>(row.conductance(level, k, polarity));
        }
      }
    }
  }
  apply_ir_drop(IrDrop::of(hardware), plan, hardware.rows, hardware.cols, values_);
}

const std::int16_t* ProgrammedCells::plane(int slice, int polarity) const {
  return values_.data() + static_cast<std::size_t>(slice * polarities_ + polarity) * plane_size_;
}

}  // namespace cimq::kernels
