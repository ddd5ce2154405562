// In what order layers take turns by rows.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the schedule: a layer computes a set of rows as soon as the rows that it needs are there, and no rows are
/// computed before somebody needs them. Layers of which all stays come in rows (a few at once where copies would idle
/// otherwise), layers that pass through the pool at once; operations row by row, where they can (ir/rows.h).
Pass schedule_pass();

}  // namespace cimq::compiler
