// Products of integers on the emulated tensor cores against plain loops: the same integers.
#include <catch2/catch.hpp>
#include <limits>
#include <type_traits>
#include <vector>

#include "common/error.h"
#include "emulation/run.h"
#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/guarded_floats.h"
#include "kernels/cuda/integer_product.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::IntegerRanges;
using cuda::IntegerShape;
using cuda::StridedFloats;

std::vector<std::int32_t> by_loops(const IntegerShape& s, const StridedFloats& x, const StridedFloats& w) {
  const Conv2dGeometry& g = s.geometry;
  const std::int64_t out_h = g.out_h(s.h);
  const std::int64_t out_w = g.out_w(s.w);
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t outputs = g.out_channels / g.groups;
  std::vector<std::int32_t> y(static_cast<std::size_t>(s.matrices * s.batch * g.out_channels * out_h * out_w));
  const auto integer = [](const StridedFloats& of, std::int64_t n, std::int64_t c, std::int64_t i, std::int64_t j) {
    const std::int64_t at = n * of.stride[0] + c * of.stride[1] + i * of.stride[2] + j * of.stride[3];
    return static_cast<std::int32_t>(std::nearbyint(of.data[at]));
  };
  for (std::int64_t image = 0; image < s.matrices * s.batch; ++image) {
    const std::int64_t first = image / std::max<std::int64_t>(1, s.batch) * g.out_channels;  // of the matrix
    for (std::int64_t o = 0; o < g.out_channels; ++o) {
      for (std::int64_t oy = 0; oy < out_h; ++oy) {
        for (std::int64_t ox = 0; ox < out_w; ++ox) {
          std::int32_t sum = 0;
          for (std::int64_t c = 0; c < channels; ++c) {
            for (std::int64_t ky = 0; ky < g.kernel_h; ++ky) {
              for (std::int64_t kx = 0; kx < g.kernel_w; ++kx) {
                const std::int64_t iy = oy * g.stride_h - g.pad_top + ky * g.dilation_h;
                const std::int64_t ix = ox * g.stride_w - g.pad_left + kx * g.dilation_w;
                if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
                sum += integer(x, image, o / outputs * channels + c, iy, ix) * integer(w, first + o, c, ky, kx);
              }
            }
          }
          const std::int64_t position = oy * out_w + ox;
          const std::int64_t at = s.channels_last ? (image * out_h * out_w + position) * g.out_channels + o
                                                  : (image * g.out_channels + o) * out_h * out_w + position;
          y[static_cast<std::size_t>(at)] = sum;
        }
      }
    }
  }
  return y;
}

/// Strides of [n, c, h, w]; `last`: channels lie side by side.
StridedFloats strided(const float* data, std::int64_t c, std::int64_t h, std::int64_t w, bool last) {
  if (last) return {data, {c * h * w, 1, w * c, c}};
  return {data, {c * h * w, h * w, w, 1}};
}

void fill(Random& random, GuardedFloats& values, const IntegerRange& range) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(random.integer(range.lo, range.hi));
    if (random.chance(0.1)) values[i] += random.chance(0.5) ? 0.0009F : -0.0009F;  // within the tolerance
    if (random.chance(0.2)) values[i] = static_cast<float>(random.chance(0.5) ? range.lo : range.hi);
  }
}

struct Result {
  std::vector<float> y;
  int faults;
};

template <typename Y>
Result run(const IntegerShape& shape, const StridedFloats& x, const StridedFloats& w, const IntegerRanges& ranges,
           std::size_t count) {
  cuda::check_integer_product("product", shape, ranges);
  const std::vector<std::byte> nothing(static_cast<std::size_t>(cuda::integer_product_scratch(shape)));
  AlignedBytes scratch(nothing.data(), nothing.size());
  std::vector<Y> y(count + 2, Y{77});
  int faults = 0;
  cuda::integer_product("product", shape, x, w, ranges, scratch.data(), &faults, y.data() + 1, {});
  CHECK(y.front() == Y{77});
  CHECK(y.back() == Y{77});
  Result result{{}, faults};
  for (std::size_t i = 0; i < count; ++i) result.y.push_back(static_cast<float>(y[i + 1]));
  return result;
}

void compare(const IntegerShape& shape, const StridedFloats& x, const StridedFloats& w, const IntegerRanges& ranges) {
  const std::vector<std::int32_t> wanted = by_loops(shape, x, w);
  std::vector<float> rounded;
  for (const std::int32_t sum : wanted) rounded.push_back(static_cast<float>(sum));
  const Result floats = run<float>(shape, x, w, ranges, wanted.size());
  REQUIRE(floats.faults == 0);
  REQUIRE(floats.y == rounded);
  REQUIRE(run<std::int32_t>(shape, x, w, ranges, wanted.size()).y == rounded);
}

IntegerRanges random_ranges(Random& random) {
  const bool is_signed = random.chance(0.4);
  return {activation_range(random.integer(1, 8), is_signed), weight_range(random.integer(1, 8))};
}

TEST_CASE("cuda integer matrices: the integers of plain loops", "[cuda][integers]") {
  Random random(41);
  emulation::in_every_order([&] {
    for (const auto& [matrices, rows, inputs, outputs] : {std::array<std::int64_t, 4>{1, 1, 1, 1},
                                                          {1, 64, 128, 64},
                                                          {1, 65, 129, 63},
                                                          {1, 3, 300, 130},
                                                          {3, 17, 31, 5},
                                                          {2, 70, 16, 65},
                                                          {1, 0, 4, 4},
                                                          {0, 4, 4, 4},
                                                          {2, 1, 257, 8}}) {
      INFO(matrices << " of " << rows << " x " << inputs << " x " << outputs);
      const IntegerRanges ranges = random_ranges(random);
      GuardedFloats x(matrices * rows * inputs, 1);
      GuardedFloats w(matrices * outputs * inputs, 3);
      fill(random, x, ranges.x);
      fill(random, w, ranges.w);
      compare(cuda::matrices_shape(matrices, rows, inputs, outputs), strided(x.data(), inputs, 1, 1, false),
              strided(w.data(), inputs, 1, 1, false), ranges);
    }
  });
}

TEST_CASE("cuda integer convolutions: the integers of plain loops", "[cuda][integers]") {
  Random random(43);
  int few = 0;
  for (int j = 0; j < 80; ++j) {
    IntegerShape shape;
    Conv2dGeometry& g = shape.geometry;
    g.groups = random.chance(0.5) ? random.integer(2, 4) : 1;
    g.in_channels = g.groups * (random.chance(0.5) ? random.integer(1, 4) : random.integer(15, 33));
    g.out_channels = g.groups * (random.chance(0.5) ? random.integer(1, 9) : random.integer(60, 70));
    draw_window(random, g);
    shape.batch = random.integer(0, 3);
    shape.h = random.integer(5, 8);
    shape.w = random.integer(10, 12);
    shape.channels_last = random.chance(0.5);
    const IntegerRanges ranges = random_ranges(random);
    INFO("case " << j << ", channels " << g.in_channels << " to " << g.out_channels << " in " << g.groups
                 << " groups, kernel " << g.kernel_h << " x " << g.kernel_w);
    GuardedFloats x(shape.batch * g.in_channels * shape.h * shape.w, static_cast<std::size_t>(random.integer(0, 3)));
    GuardedFloats w(g.out_channels * g.inputs_per_output(), static_cast<std::size_t>(random.integer(0, 3)));
    fill(random, x, ranges.x);
    fill(random, w, ranges.w);
    compare(shape, strided(x.data(), g.in_channels, shape.h, shape.w, random.chance(0.5)),
            strided(w.data(), g.in_channels / g.groups, g.kernel_h, g.kernel_w, random.chance(0.5)), ranges);
    few += cuda::integer_product_scratch(shape) == 0 && shape.batch > 0 ? 1 : 0;
  }
  CHECK(few > 5);
}

TEST_CASE("cuda integer products: values that are no integers of their range show", "[cuda][integers]") {
  for (const std::int64_t groups : {1, 2}) {  // on tensor cores, and a thread per result
    IntegerShape shape;
    shape.geometry.groups = groups;
    shape.geometry.in_channels = 4;
    shape.geometry.out_channels = 6;
    shape.batch = 2;
    const IntegerRanges ranges{{0, 15}, {-7, 7}};
    for (const float bad : {16.0F, -9.0F, 0.5F, 3.01F, std::nanf(""), std::numeric_limits<float>::infinity(), 1e30F}) {
      for (const bool in_weights : {false, true}) {
        GuardedFloats x(8);
        GuardedFloats w(6 * 4 / groups);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = 3.0F;
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = -2.0F;
        (in_weights ? w[1] : x[1]) = bad;
        const Result result = run<float>(shape, strided(x.data(), 4, 1, 1, false),
                                         strided(w.data(), 4 / groups, 1, 1, false), ranges, 12);
        CHECK(result.faults == 1);
        CHECK(std::isnan(result.y[0]));  // of the first image and output, which both values enter
        CHECK(run<std::int32_t>(shape, strided(x.data(), 4, 1, 1, false), strided(w.data(), 4 / groups, 1, 1, false),
                                ranges, 12)
                  .faults == 1);
      }
    }
  }
}

TEST_CASE("cuda integer products: what cannot be exact is refused", "[cuda][integers][errors]") {
  const auto refused = [](const IntegerShape& shape, const IntegerRanges& ranges, const char* text) {
    CHECK_THROWS_WITH(cuda::check_integer_product("product", shape, ranges), Catch::Contains(text));
  };
  const IntegerRanges bytes{{0, 255}, {-127, 127}};
  refused(cuda::matrices_shape(1, 1, 66312, 1), bytes, "sums of 66312 products do not fit 32 bits");
  refused(cuda::matrices_shape(1, 1, 4, 1), {{-1, 255}, {-7, 7}}, "integers must fit bytes, got -1..255");
  refused(cuda::matrices_shape(1, 1, 4, 1), {{0, 255}, {-129, 7}}, "integers must fit bytes");
  refused(cuda::matrices_shape(1, -1, 4, 1), bytes, "batch and matrices must be at least 0");
  refused(cuda::matrices_shape(1, std::int64_t{1} << 32, 4, 1), bytes, "split the batch");
  refused(cuda::matrices_shape(1, 1, 0, 1), bytes, "in_channels");
  IntegerShape tall = cuda::matrices_shape(1, 1, 4, 1);
  tall.h = std::int64_t{1} << 30;
  tall.geometry.stride_h = 1 << 24;
  refused(tall, bytes, "fewer than 2^30 rows");
}

}  // namespace
}  // namespace cimq::kernels::testing
