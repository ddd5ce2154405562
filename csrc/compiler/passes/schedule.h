// In what order layers take turns by rows.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the schedule: a layer computes a set of rows as soon as the rows that it needs are there, and no rows are
/// computed before somebody needs them. Layers of which all stays come in rows (a few at once where copies would idle
/// otherwise), layers that pass through the pool at once; operations row by row, where they can (ir/rows.h).
Pass schedule_pass();

/// Rows of a layer of `rows` rows of `vectors` input vectors each that `copies` work on together: the fewest that come
/// close to keeping all copies busy.
std::int64_t rows_at_once(std::int64_t rows, std::int64_t vectors, std::int64_t copies);

}  // namespace cimq::compiler
