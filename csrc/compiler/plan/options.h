// What a layer may take of a machine's crossbars, and how long it takes then.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "compiler/cost/rounds.h"

namespace cimq::compiler {

/// `copies` of a layer's tiles share its input vectors: vector i is shown to copy i % copies.
struct LayerOption {
  std::int64_t crossbars = 0;  ///< of its own; what passes through the pool has none
  std::uint64_t time_ps = 0;   ///< of the layer by itself, write after write, for all samples of a batch
  std::int64_t copies = 1;
};

/// Of one layer; more crossbars, less time.
using LayerOptions = std::vector<LayerOption>;

using OptionsView = std::span<const LayerOption>;

/// How a layer comes row by row: rows of its result, input vectors of one.
struct LayerRows {
  std::int64_t rows = 1, vectors = 0;
};

/// Rows that `copies` work on together: the fewest that come close to keeping all copies busy.
std::int64_t rows_at_once(const LayerRows& layer, std::int64_t copies);

/// Options of a layer that stays and comes in rows, which take at most `most` crossbars; one that cannot stay has one
/// option: to have its place in the pool.
LayerOptions options_in_rows(const LayerLoad& load, const LayerRows& rows, std::int64_t most);

/// Numbers of copies up to `most` at which a layer of `vectors` input vectors gets faster, from 1 on.
std::vector<std::int64_t> useful_copies(std::int64_t vectors, std::int64_t most);

/// Options of a layer beside a pool (machine.pool; 0 for none) that take at most `most` crossbars: it passes through
/// the pool, or unless it always passes stays in part, or stays with some copies. `copies`: just so many; none:
/// whatever is of use. Empty where it cannot pass nor stay.
LayerOptions options_of(const LayerLoad& load, const PoolMachine& machine, std::int64_t most,
                        const std::optional<std::int64_t>& copies);

}  // namespace cimq::compiler
