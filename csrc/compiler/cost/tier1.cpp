#include "compiler/cost/tier1.h"

#include <cmath>

#include "common/error.h"
#include "common/mapping.h"
#include "common/rounding.h"

namespace cimq::compiler {
namespace {

constexpr double kPicosecondsPerMicrosecond = 1e6;

std::int64_t product(std::int64_t a, std::int64_t b, const LayerShape& shape, const char* what) {
  std::int64_t result = 0;
  check(!__builtin_mul_overflow(a, b, &result), "latency: layer '", shape.name, "': ", what, " exceeds 63 bits (", a,
        " * ", b, ")");
  return result;
}

void check_shape(const LayerShape& shape) {
  const auto positive = [&](const char* key, std::int64_t value) {
    check(value >= 1, "latency: layer '", shape.name, "': ", key, " must be at least 1, got ", value);
  };
  positive("outputs", shape.outputs);
  positive("inputs", shape.inputs);
  positive("invocations", shape.invocations);
  positive("repeats", shape.repeats);
}

void check_bits(const LayerShape& shape, const char* key, int bits) {
  check(bits >= 1 && bits <= 8, "latency: layer '", shape.name, "': ", key, " must be from 1 to 8, got ", bits);
}

}  // namespace

std::int64_t picoseconds(double time_us) {
  return static_cast<std::int64_t>(round_half_even(time_us * kPicosecondsPerMicrosecond));
}

double microseconds(std::int64_t time_ps) { return static_cast<double>(time_ps) / kPicosecondsPerMicrosecond; }

std::int64_t checked_sum(std::int64_t a, std::int64_t b, const std::string& what) {
  std::int64_t result = 0;
  check(!__builtin_add_overflow(a, b, &result), "latency: ", what, " exceeds 63 bits (", a, " + ", b, ")");
  return result;
}

std::int64_t arrays_for(std::int64_t needed, std::int64_t available) {
  return needed / available + (needed % available != 0 ? 1 : 0);
}

std::int64_t tile_count(const Hardware& hw, const LayerShape& shape, int weight_bits) {
  check_shape(shape);
  check_bits(shape, "weight_bits", weight_bits);
  // Shapes are anybody's numbers: refused where the rows or columns of common/mapping.h would leave 63 bits.
  const std::int64_t cells = weight_slices(hw, weight_bits) * std::int64_t{column_polarities(hw.mapping)};
  checked_sum(product(shape.outputs, cells, shape, "the number of columns"), reference_columns(hw.mapping),
              "the number of columns of layer '" + shape.name + "'");
  product(shape.inputs, row_polarities(hw.mapping), shape, "the number of rows");
  const std::int64_t columns = physical_columns(hw.mapping, shape.outputs, weight_slices(hw, weight_bits));
  const std::int64_t rows = physical_rows(hw.mapping, shape.inputs);
  return product(arrays_for(columns, hw.cols), arrays_for(rows, hw.rows), shape, "the number of tiles");
}

Tier1Cost tier1(const Hardware& hw, const LayerShape& shape, int weight_bits, int act_bits) {
  Tier1Cost cost;
  cost.tiles = tile_count(hw, shape, weight_bits);
  check_bits(shape, "act_bits", act_bits);
  cost.writes = product(shape.repeats, cost.tiles, shape, "the number of writes");
  const std::int64_t vectors = product(cost.writes, shape.invocations, shape, "the number of MVMs");
  cost.mvms = product(vectors, input_digits(hw, act_bits), shape, "the number of MVMs");
  cost.write_time_ps =
      product(cost.writes, picoseconds(hw.timing.write_time_us), shape, "the write time in picoseconds");
  cost.mvm_time_ps = product(cost.mvms, picoseconds(hw.timing.mvm_time_us), shape, "the MVM time in picoseconds");
  checked_sum(cost.write_time_ps, cost.mvm_time_ps, "the time of layer '" + shape.name + "' in picoseconds");
  return cost;
}

std::vector<std::int64_t> tier1_table(const Hardware& hw, const LayerShape& shape, const std::vector<int>& bits) {
  std::vector<std::int64_t> times;
  times.reserve(bits.size() * bits.size());
  for (const int weight_bits : bits) {
    for (const int act_bits : bits) times.push_back(tier1(hw, shape, weight_bits, act_bits).time_ps());
  }
  return times;
}

}  // namespace cimq::compiler
