// A program made ready for walking: names are numbers, and what an instruction takes of the machine is known.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/cost/durations.h"
#include "compiler/ir/graph.h"
#include "compiler/isa/program.h"

namespace cimq::compiler::sim {

/// base + sum of stride * loop counter; counters are numbered by the depth of their loop.
struct Index {
  static constexpr std::size_t kMaxTerms = 6;  // loops are nested at most so deep
  struct Term {
    std::size_t depth = 0;
    std::int64_t stride = 0;
  };
  std::int64_t base = 0;
  std::size_t terms = 0;
  std::array<Term, kMaxTerms> term{};

  std::int64_t at(const std::vector<std::int64_t>& counters) const {
    std::int64_t value = base;
    for (std::size_t i = 0; i < terms; ++i) value += term[i].stride * counters[term[i].depth];
    return value;
  }
};

enum class StepKind {
  kNothing,  // CFG, END, READY
  kLoop,
  kQuantize,
  kWrite,
  kGather,
  kMvm,
  kShiftAdd,
  kRequantize,
  kVector,
};

struct Step {
  StepKind kind = StepKind::kNothing;
  std::int32_t layer = -1;
  std::int32_t dst = -1;                    ///< value; sums of an MVM are the layer's own
  std::vector<std::int32_t> src;            ///< values; of a WRITE what is computed at run time
  Index tile, crossbar, at, repeat;         ///< of an MVM or WRITE, IM2COL, SHADD
  Index lane;                               ///< IM2COL, MVM: which of the registers
  std::optional<Index> first_row;           ///< QUANT of some rows
  bool all_at = false, all_repeat = false;  ///< SHADD: of all input vectors, of all groups
  std::int64_t digits = 0;                  ///< MVM
  std::int64_t vector_ps = 0;               ///< QUANT, REQ, VEC: time on the vector unit
  std::int64_t count = 0;                   ///< LOOP
  bool samples = false;                     ///< LOOP: over the samples of the batch
  std::size_t end = 0;                      ///< LOOP: its END
};

/// A crossbar layer on the machine.
struct LayerFacts {
  struct ColumnTile {
    std::int64_t lines = 0;  ///< that are converted
    DigitTime digit;
  };
  std::string name;
  std::int64_t vectors = 0, groups = 0;  ///< input vectors of a group; groups
  std::int64_t vector_bytes = 0;         ///< an input vector, packed
  std::int64_t sum_bytes = 0;            ///< the sums of an input vector: four bytes for every converted line
  std::int64_t result_bytes = 0;         ///< the results of an input vector: a byte each
  std::int64_t lines = 0;                ///< sums of an input vector
  std::int64_t load_ps = 0;              ///< an input vector over the bus
  std::vector<ColumnTile> columns;       ///< by column tile
  std::vector<std::int64_t> rows;        ///< word lines by row tile
};

LayerFacts facts_of(const Hardware& network, const CrossbarLayer& layer);

struct Steps {
  const Program& program;
  std::vector<Step> code;  ///< as the program's
  std::vector<LayerFacts> layers;
  std::size_t values = 0;
  std::int32_t output = -1;  ///< value: the result of the network
  /// Registers for input vectors with the instruction (outside of loops, but for those over samples, which share the
  /// registers) after which nobody uses them, in that order.
  std::vector<std::pair<std::size_t, std::int32_t>> last_uses;
};

/// The program was compiled from `graph`. Throws Error naming the line for a node or layer that the graph has not, and
/// for times beyond 58 bits.
Steps resolve(const Program& program, const Graph& graph);

}  // namespace cimq::compiler::sim
