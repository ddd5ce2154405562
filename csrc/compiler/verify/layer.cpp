#include "compiler/verify/layer.h"

namespace cimq::compiler::verify {

bool Layer::is_described_by(const isa::Configure& i) const {
  const CrossbarLayer& f = facts();
  return i.weight_bits == f.weight_bits && i.act_bits == f.act_bits && i.act_signed == f.act_signed &&
         i.outputs == f.outputs && i.inputs == f.inputs_per_output && i.invocations == f.invocations &&
         i.repeats == f.repeats && i.slices == tiling.slices && i.digits == tiling.digits &&
         i.row_tiles == tiling.row_tiles && i.column_tiles == tiling.column_tiles;
}

}  // namespace cimq::compiler::verify
