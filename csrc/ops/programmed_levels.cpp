// cimq::programmed_levels: what the cells of a layer conduct, for the written-out specification and for looking at:
// [n_w, polarities, outputs, inputs] int32 in 1/256 level, what level 0 conducts included; polarities: 2 for a
// differential mapping, else 1.
#include <torch/library.h>

#include "ops/support/crossbar_call.h"

TORCH_LIBRARY_FRAGMENT(cimq, m) { m.def(cimq::ops::kProgrammedLevels.schema().c_str()); }
