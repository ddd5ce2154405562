// The program of a network: what is written to the crossbars, what they compute, and what happens in between.
// One instruction per line of program.jsonl; docs/bundle.md has the list with an example.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "compiler/passes/tiling.h"

namespace cimq::compiler {

inline constexpr const char* kIsaName = "cimq-isa";
inline constexpr const char* kIsaVersion = "1.1.0";

namespace isa {

/// CFG: precision and shape of the crossbar layer that follows. `layer` counts crossbar layers from 0.
struct Configure {
  std::int64_t layer = 0;
  std::string node;
  CrossbarLayer facts;
  std::int64_t slices = 0, digits = 0, row_tiles = 0, column_tiles = 0;
};

/// QUANT: dst = clamp(rint(src / scale) - zero, lo, hi).
struct Quantize {
  std::int64_t layer = 0;
  std::string src, dst, scale;
  std::int64_t lo = 0, hi = 0;
  std::int64_t zero = 0;
};

/// LOOP ... END: the body `count` times, `variable` = 0, 1, ...
struct Loop {
  std::string variable;
  std::int64_t count = 0;
};
struct End {};

/// WRITE: programs the cells of `tile` into its crossbar. `repeat` names the loop variable that selects the group.
struct Write {
  std::int64_t layer = 0;
  Tile tile;
  std::string weight, repeat;
};

/// IM2COL: dst = the input vector that loop variable `at` (and group `repeat`) selects from src.
struct Gather {
  std::int64_t layer = 0;
  std::string src, dst, at, repeat;
};

/// MVM: for digits [digit_begin, digit_end): acc[at, column] += 2^(d*i) * code of the column, for the tile's columns.
struct Mvm {
  std::int64_t layer = 0, tile = 0, crossbar = 0;
  std::string src, acc, at, repeat;
  std::int64_t digit_begin = 0, digit_end = 0;
};

/// SHADD: dst = sum over slices of 2^shift * scale * acc, pairs subtracted, the corrections of a shifted input and of
/// the offset mapping added: the crossbar product Y of the integers that were applied.
struct ShiftAdd {
  std::int64_t layer = 0;
  std::string acc, dst, repeat;
  std::vector<std::int64_t> shifts;  ///< one per slice, low to high
};

/// REQ: dst = float32(src + zero * sum(weight[o])) * multiplier[o] + bias[o]; `weight` is empty where `zero` is 0.
struct Requantize {
  std::int64_t layer = 0;
  std::string src, dst, multiplier, bias;
  std::int64_t zero = 0;
  std::string weight;
};

/// VEC: any other node, in float32.
struct Vector {
  std::string fn;
  std::vector<std::string> src;
  std::string dst;
};

using Instruction = std::variant<Configure, Quantize, Loop, End, Write, Gather, Mvm, ShiftAdd, Requantize, Vector>;

}  // namespace isa

struct Program {
  Hardware hardware;
  std::string input, output;  ///< value names
  std::int64_t writes = 0, mvms = 0;
  std::vector<isa::Instruction> code;
};

}  // namespace cimq::compiler
