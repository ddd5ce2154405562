// Spells a placed network out as a program.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the program of the closed form: layers in order, weights written tile by tile, counted loops over input
/// vectors and groups.
Pass lower_in_turn_pass();

/// Gives the program of a stationary placement: what stays is written before READY, the rest in rounds of the pool; the
/// tiles of a round see an input vector together. Loops over tiles, vectors and groups: its length does not depend on
/// their numbers.
Pass lower_stationary_pass();

/// Gives the program of a schedule: as the one before, but layers take turns by rows. Row sets that come again with
/// later rows are a loop.
Pass lower_in_rows_pass();

}  // namespace cimq::compiler
