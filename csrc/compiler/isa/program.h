// The program of a network: what is written to the crossbars, what they compute, and what happens in between.
// One instruction per line of program.jsonl; docs/isa.md says what each means and what a program must fulfil. The
// instruction set knows nothing of networks or passes: both look at it.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/hardware.h"

namespace cimq::compiler {

inline constexpr std::string_view kIsaName = "cimq-isa";

namespace isa {

/// A whole number that follows the loops around an instruction: base + sum of stride * variable.
struct Term {
  std::string variable;
  std::int64_t stride = 1;
  friend bool operator==(const Term&, const Term&) = default;
};
struct Index {
  std::int64_t base = 0;
  std::vector<Term> terms;

  bool constant() const { return terms.empty(); }
  friend bool operator==(const Index&, const Index&) = default;
};

/// The index that is a loop variable itself.
inline Index counted(const std::string& variable) { return {0, {{variable, 1}}}; }

/// Rows [first, first + count) of a value (docs/isa.md, "Rows").
struct Rows {
  Index first;
  std::int64_t count = 1;
};

/// Cell rows [row_begin, row_end) and cell columns [column_begin, column_end) of a layer's matrix.
struct Region {
  std::int64_t row_begin = 0, row_end = 0;
  std::int64_t column_begin = 0, column_end = 0;
  friend bool operator==(const Region&, const Region&) = default;
};

/// CFG: precision and shape of a crossbar layer. `layer` counts crossbar layers from 0, in the order of their CFG.
struct Configure {
  std::int64_t layer = 0;
  std::string node;
  std::string name;  ///< of the layer
  int weight_bits = 8, act_bits = 8;
  bool act_signed = false;
  std::int64_t outputs = 0, inputs = 0, invocations = 0, repeats = 0;  ///< as in CrossbarLayer (ir/graph.h)
  std::int64_t slices = 0, digits = 0, row_tiles = 0, column_tiles = 0;
};

/// QUANT: dst = clamp(rint(src / scale) - zero, lo, hi). Of some rows, or of all. `operand`: of the layer's second
/// input, which its crossbars will hold; with one bit its integers are the signs, and 0 is positive.
struct Quantize {
  std::int64_t layer = 0;
  std::string src, dst, scale;
  std::int64_t lo = 0, hi = 0;
  std::int64_t zero = 0;
  std::optional<Rows> rows = {};
  bool operand = false;
};

/// LOOP ... END: the body `count` times, `variable` = 0, 1, ... `samples`: once for every sample of the batch; values
/// and registers in it are the sample's own, and no index follows its variable.
struct Loop {
  std::string variable;
  std::int64_t count = 0;
  bool samples = false;
};
struct End {};

/// READY: what stands above it happens once, when the network is loaded; what follows, for every sample.
struct Ready {};

/// WRITE: programs the cells of `tile` of the group `repeat` into `crossbar`. `region` may be left out: it follows from
/// the tile. `weight` is a tensor, or the quantised second input of the layer.
struct Write {
  std::int64_t layer = 0;
  Index tile, crossbar;
  std::optional<Region> region;
  std::string weight;
  Index repeat;
};

/// IM2COL: dst = input vector `at` of group `repeat`, from src. `dst` is a row of registers, of which `lane` is filled:
/// copies of a tile have vectors of their own.
struct Gather {
  std::int64_t layer = 0;
  std::string src, dst;
  Index at, repeat;
  Index lane = {};
};

/// MVM: for digits [digit_begin, digit_end): acc[repeat, at, column] += 2^(d*i) * code of the column, for the columns
/// of the tile. The vector is the one in `lane` of src.
struct Mvm {
  std::int64_t layer = 0;
  Index tile, crossbar;
  std::string src, acc;
  Index at, repeat;
  std::int64_t digit_begin = 0, digit_end = 0;
  Index lane = {};
};

/// SHADD: dst = sum over slices of 2^shift * scale * acc, pairs subtracted, the corrections of a shifted input and of
/// the offset mapping added: the crossbar product Y of the integers that were applied. Of one input vector (`at`) or of
/// all, of one group (`repeat`) or of all.
struct ShiftAdd {
  std::int64_t layer = 0;
  std::string acc, dst;
  std::optional<Index> at, repeat;
  std::vector<std::int64_t> shifts;  ///< one per slice, low to high
};

/// REQ: dst = float32(src + zero * sum(weight[o])) * multiplier[o] + bias[o]; `weight` is empty where `zero` is 0,
/// `bias` where crossbars hold an input: then nothing is added. Of some rows of the result, or of all.
struct Requantize {
  std::int64_t layer = 0;
  std::string src, dst, multiplier, bias;
  std::int64_t zero = 0;
  std::string weight;
  std::optional<Rows> rows = {};
};

/// VEC: any other node, in float32. Some rows of the result, or all.
struct Vector {
  std::string fn;
  std::vector<std::string> src;
  std::string dst;
  std::optional<Rows> rows = {};
};

using Instruction =
    std::variant<Configure, Quantize, Loop, End, Ready, Write, Gather, Mvm, ShiftAdd, Requantize, Vector>;

}  // namespace isa

/// Of one batch; what happens before READY is counted apart.
struct ProgramCounts {
  std::int64_t writes = 0, mvms = 0;
  std::int64_t setup_writes = 0;
  friend bool operator==(const ProgramCounts&, const ProgramCounts&) = default;
};

struct Program {
  Hardware hardware;
  std::string input, output;  ///< value names
  ProgramCounts counts;       ///< as the header states them
  std::int64_t batch = 1;     ///< samples that it computes together
  std::vector<isa::Instruction> code;
};

/// Lowest version of the instruction set that has everything that the program uses: 1.1.0, or 1.2.0 for READY, indices
/// other than a loop variable, writes without a region and sums of one input vector, 1.3.0 for lanes and rows, 1.4.0
/// for inputs that crossbars hold, or 1.5.0 for batches.
std::string_view version_of(const Program& program);

/// For every LOOP the index of its END; 0 for other instructions. Throws Error naming the line of a LOOP without END,
/// or an END without LOOP.
std::vector<std::size_t> loop_ends(const Program& program);

/// Where an instruction stands, for messages: "program.jsonl: line 7". Text is made when it is asked for: checks name
/// their line millions of times and fail once.
struct ProgramLine {
  std::size_t instruction = 0;
  friend std::ostream& operator<<(std::ostream& out, const ProgramLine& line);
};
inline ProgramLine line_of(std::size_t instruction) { return {instruction}; }

}  // namespace cimq::compiler
