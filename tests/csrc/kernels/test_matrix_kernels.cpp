// The matrix kernels against the plain loops of the scalar ones, kernel by kernel, with every shape of block that a
// layer can give; and the tiles in software that stand for AMX where there is none.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "every_isa.h"
#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/tile/dispatch.h"
#include "random_case.h"
#include "software_tiles.h"

namespace cimq::kernels::testing {
namespace {

/// One call of a kernel, with what it points to.
struct Call {
  cpu::TileArgs args{};
  std::vector<cpu::TileRow> rows;
  std::vector<std::int32_t> sums;
  std::vector<std::uint32_t> cells;         ///< [steps][width] and what matrix kernels may read beyond
  std::vector<std::uint8_t> matrix_digits;  ///< [rows][input_tiles().bytes()]
  std::vector<std::uint8_t> bytes;          ///< [rows][steps][4], for int8 cells
  std::vector<std::int16_t> words;          ///< [rows][steps][2], for int16 cells
  std::vector<std::int32_t> column_lo;
  std::vector<float> column_inv_lsb;
  std::vector<std::byte> scratch;
};

enum class Codes { kNone, kPlain, kClamped, kColumns, kWide, kWideColumns };

Call draw(Random& random, bool word_cells, bool signed_digits, Codes codes) {
  Call call;
  cpu::TileArgs& args = call.args;
  const std::int64_t inputs = random.integer(1, random.chance(0.3) ? 500 : 80);
  const int outputs_of_lane = cpu::kLaneWidth;
  args.width = outputs_of_lane * static_cast<int>(random.integer(1, 4));
  args.row_count = static_cast<int>(random.integer(1, random.chance(0.5) ? 100 : 20));
  args.steps = word_cells ? (inputs + 1) / 2 : (inputs + 3) / 4;
  args.signed_digits = signed_digits;
  const int max_digit = random.chance(0.5) ? 1 : 255;

  const cpu::InputTiles tiles = cpu::input_tiles((inputs + 3) / 4);
  call.matrix_digits.assign(static_cast<std::size_t>(args.row_count * tiles.bytes()), 0);
  call.bytes.assign(static_cast<std::size_t>(args.row_count * args.steps * 4), 0);
  call.words.assign(static_cast<std::size_t>(args.row_count * args.steps * 2), 0);
  std::int32_t output_row = 0;
  for (int r = 0; r < args.row_count; ++r) {
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < inputs; ++k) {
      const auto byte = static_cast<std::uint8_t>(random.integer(0, max_digit));
      call.matrix_digits[static_cast<std::size_t>(r * tiles.bytes() + k)] = byte;
      if (word_cells) {
        const std::int16_t digit = signed_digits ? static_cast<std::int8_t>(byte) : std::int16_t{byte};
        call.words[static_cast<std::size_t>(r * args.steps * 2 + k)] = digit;
      } else {
        call.bytes[static_cast<std::size_t>(r * args.steps * 4 + k)] = byte;
      }
      sum += byte;
    }
    if (r > 0 && random.chance(0.2)) ++output_row;
    call.rows.push_back({output_row, static_cast<std::int32_t>(random.integer(0, 7)), random.chance(0.2) ? 1 : 0, sum});
  }
  args.rows = call.rows.data();
  for (std::int64_t j = 0; j < (output_row + 1) * args.width; ++j) {
    call.sums.push_back(static_cast<std::int32_t>(random.integer(-1000, 1000)));
  }

  // Cells beyond the inputs are zero up to the last step, and anything beyond it.
  const std::int64_t lanes = args.steps * args.width + cpu::kMatrixReadsBeyond / 4;
  for (std::int64_t j = 0; j < lanes; ++j)
    call.cells.push_back(static_cast<std::uint32_t>(random.integer(0, 1LL << 32)));
  const std::int64_t last = args.steps - 1;
  const std::int64_t used = inputs - last * (word_cells ? 2 : 4);
  for (int o = 0; o < args.width; ++o) {
    const auto bits = static_cast<unsigned>(used * (word_cells ? 16 : 8));
    if (bits < 32) call.cells[static_cast<std::size_t>(last * args.width + o)] &= (1U << bits) - 1U;
  }
  args.cells = call.cells.data();
  call.scratch.resize(static_cast<std::size_t>(tiles.scratch_bytes()));
  args.scratch = call.scratch.data();

  args.convert = codes != Codes::kNone;
  args.negative = random.chance(0.3);
  const bool wide = codes == Codes::kWide || codes == Codes::kWideColumns;
  args.code_min = wide ? 0 : static_cast<std::int32_t>(random.integer(-128, 0));
  args.code_max = wide ? 65535 : static_cast<std::int32_t>(random.integer(1, 127));
  const double largest = static_cast<double>(inputs) * max_digit * (word_cells ? 32768 : 128);
  const auto inv_lsb = [&](double bound) {
    return static_cast<float>(bound / largest * (codes == Codes::kPlain ? 1.0 : random.real(0.5, 5.0)));
  };
  if (codes == Codes::kPlain) {  // codes that no clamp changes
    args.code_min = -32768;
    args.code_max = 32767;
  } else {
    args.clips = true;
    args.lo = static_cast<std::int32_t>(random.integer(-300, 300));
    args.cell_bias = random.chance(0.5) ? 128 : 0;
  }
  args.inv_lsb = inv_lsb(codes == Codes::kPlain ? 32000.0 : args.code_max);
  if (codes == Codes::kColumns || codes == Codes::kWideColumns) {
    for (int o = 0; o < args.width; ++o) {
      call.column_lo.push_back(static_cast<std::int32_t>(random.integer(-300, 300)));
      call.column_inv_lsb.push_back(inv_lsb(args.code_max));
    }
    args.column_lo = call.column_lo.data();
    args.column_inv_lsb = call.column_inv_lsb.data();
  }
  return call;
}

std::vector<std::int32_t> expected_sums(const Call& call, bool word_cells) {
  const cpu::TileKernels& scalar = cpu::available_kernels().back();
  std::vector<std::int32_t> sums = call.sums;
  cpu::TileArgs args = call.args;
  args.digits = word_cells ? static_cast<const void*>(call.words.data()) : call.bytes.data();
  args.sums = sums.data();
  const auto kernel = word_cells ? scalar.words : scalar.bytes;
  if (args.column_lo == nullptr) {
    kernel(args);
    return sums;
  }
  // Currents first, each in a row of its own.
  std::vector<cpu::TileRow> rows;
  for (std::int32_t r = 0; r < args.row_count; ++r) {
    rows.push_back({r, 0, 0, call.rows[static_cast<std::size_t>(r)].digit_sum});
  }
  std::vector<std::int32_t> currents(static_cast<std::size_t>(args.row_count * args.width), 0);
  args.rows = rows.data();
  args.sums = currents.data();
  args.convert = args.negative = false;
  kernel(args);
  scalar.columns({currents.data(), args.width, call.rows.data(), args.row_count, sums.data(), call.args.negative,
                  call.column_lo.data(), call.column_inv_lsb.data(), args.code_min, args.code_max});
  return sums;
}

using Registers = std::vector<std::byte>;

/// What a product leaves in C, from register contents.
template <typename Tiles, cpu::TileProduct kProduct>
std::vector<std::int32_t> product(const Registers& c, const Registers& a, const Registers& b, int rows, int groups) {
  cpu::TileConfig config;
  const auto set = [&](std::size_t tile, int tile_rows, int bytes) {
    config.rows[tile] = static_cast<std::uint8_t>(tile_rows);
    config.row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  };
  set(0, rows, 64);
  set(4, rows, 4 * groups);
  set(6, groups, 64);
  Tiles tiles;
  tiles.configure(config);
  tiles.template load<0>(c.data(), 64);
  tiles.template load<4>(a.data(), 64);
  tiles.template load<6>(b.data(), 64);
  tiles.template multiply<kProduct, 0, 4, 6>();
  std::vector<std::int32_t> result(16 * 20, -1);
  tiles.template store<0>(result.data(), 80);
  tiles.release();
  return result;
}

}  // namespace

TEST_CASE("matrix kernels equal the plain loops for every shape, converter and sign", "[matrix]") {
  int kernels = 0;
  for (const KernelSet& set : kernel_sets()) {
    const UseKernels use(set);
    const cpu::MatrixKernels matrix = cpu::active_kernels().matrix;
    if (matrix.bytes == nullptr) continue;
    ++kernels;
    Random random(21);
    for (const Codes codes :
         {Codes::kNone, Codes::kPlain, Codes::kClamped, Codes::kColumns, Codes::kWide, Codes::kWideColumns}) {
      for (int j = 0; j < 90; ++j) {
        const bool words = j % 3 > 0;
        const bool signed_digits = words && codes == Codes::kNone && j % 3 == 2;
        Call call = draw(random, words, signed_digits, codes);
        INFO(set.name << ", codes " << static_cast<int>(codes) << ", words " << words << ", signed " << signed_digits
                      << ", " << call.args.row_count << " rows, width " << call.args.width << ", steps "
                      << call.args.steps);
        const std::vector<std::int32_t> expected = expected_sums(call, words);
        call.args.digits = call.matrix_digits.data();
        call.args.sums = call.sums.data();
        (words ? matrix.words : matrix.bytes)(call.args);
        REQUIRE(call.sums == expected);
      }
    }
  }
  const auto& sets = kernel_sets();
  const bool possible = std::any_of(sets.begin(), sets.end(), [](const KernelSet& set) { return set.isa == "avx512"; });
  CHECK((kernels > 0) == possible);
}

TEST_CASE("layers of many rows go through matrix kernels and equal the reference", "[matrix][mvm]") {
  // What random layers of few rows do not reach: int16 cells, whole activations with a sign, operands in place.
  struct Layer {
    const char* name;
    std::int64_t batch, outputs, inputs;
    bool noisy, ideal, act_signed;
    const char* read;
    Mapping mapping;
    int cell_bits;
  };
  for (const Layer& layer :
       {Layer{"noisy cells", 12, 70, 150, true, false, false, "", Mapping::kDifferentialColumn, 2},
        Layer{"noisy cells, signed", 9, 33, 129, true, false, true, "", Mapping::kDifferentialRow, 4},
        Layer{"noisy cells, offset", 9, 20, 70, true, false, false, "", Mapping::kOffset, 2},
        Layer{"constant read noise", 9, 70, 150, true, false, false, "constant", Mapping::kDifferentialColumn, 2},
        Layer{"proportional read noise", 9, 70, 150, true, false, true, "proportional", Mapping::kDifferentialRow, 2},
        Layer{"read noise, ideal converters", 9, 40, 90, true, true, false, "constant", Mapping::kOffset, 1},
        Layer{"folded digits", 70, 66, 300, true, true, false, "", Mapping::kDifferentialColumn, 4},
        Layer{"folded digits, signed", 70, 10, 300, true, true, true, "", Mapping::kDifferentialColumn, 4},
        Layer{"digital in place", 40, 65, 256, false, true, false, "", Mapping::kDifferentialColumn, 2},
        Layer{"digital, signed", 40, 20, 700, false, true, true, "", Mapping::kDifferentialColumn, 2},
        Layer{"offset, 8-bit cells", 10, 40, 90, false, false, false, "", Mapping::kOffset, 8},
        Layer{"single-bit cells", 10, 40, 90, false, false, true, "", Mapping::kDifferentialColumn, 1}}) {
    INFO(layer.name);
    Random random(31);
    Case c;
    c.hardware = plain_hardware();
    c.hardware.rows = 100;
    c.hardware.cell_bits = layer.cell_bits;
    c.hardware.mapping = layer.mapping;
    if (layer.noisy) c.hardware.cell.programming = {"gaussian", 0.1};
    if (std::string(layer.read) == "constant") c.hardware.cell.read = {"constant", 0.1};
    if (std::string(layer.read) == "proportional") c.hardware.cell.read = {"proportional", 0.0, std::nullopt, 0.05};
    if (!layer.ideal) {
      c.hardware.adc.bits = 7;
      c.hardware.adc.range = AdcRange::kFullScale;
    }
    c.options.act_signed = layer.act_signed;
    c.batch = layer.batch;
    c.outputs = layer.outputs;
    c.inputs = layer.inputs;
    const auto w = random_weights(random, c.outputs * c.inputs, 8);
    const auto x = random_activations(random, c.batch * c.inputs, 8, c.options.act_signed);
    on_every_isa([&] { REQUIRE(run_case(c, w, x)); });
  }
}

TEST_CASE("matrices of inputs have one shape, and are filled up by less than one step each", "[matrix]") {
  for (std::int64_t groups = 1; groups < 2000; ++groups) {
    const cpu::InputTiles tiles = cpu::input_tiles(groups);
    REQUIRE(tiles.groups <= cpu::kMatrixRows);
    REQUIRE(tiles.count == (groups + 15) / 16);
    const std::int64_t beyond = tiles.count * tiles.groups - groups;
    REQUIRE(beyond >= 0);
    REQUIRE(beyond < std::min<std::int64_t>(tiles.count, cpu::kMatrixRows));
  }
}

TEST_CASE("tiles in software multiply as the instruction set manual says, and refuse what it forbids", "[matrix]") {
  using cpu::TileProduct;
  // One row of a: 200 and -1 or 255; one lane of b: 3, 254 or -2.
  Registers a(1024), b(1024), c(1024);
  a[0] = std::byte{200};
  a[1] = std::byte{255};
  b[0] = std::byte{3};
  b[1] = std::byte{254};
  c[0] = std::byte{10};
  const auto first = [&]<TileProduct kProduct>() { return product<SoftwareTiles, kProduct>(c, a, b, 1, 1)[0]; };
  CHECK(first.operator()<TileProduct::kUnsignedSigned>() == 10 + 200 * 3 - 255 * 2);
  CHECK(first.operator()<TileProduct::kUnsignedUnsigned>() == 10 + 200 * 3 + 255 * 254);
  CHECK(first.operator()<TileProduct::kSignedSigned>() == 10 - 56 * 3 + 2);
  CHECK(first.operator()<TileProduct::kSignedUnsigned>() == 10 - 56 * 3 - 254);

  SoftwareTiles tiles;
  CHECK_THROWS_WITH(tiles.zero<0>(), Catch::Contains("configured"));
  cpu::TileConfig config;
  config.rows = {2, 0, 0, 0, 3, 0, 5};
  config.row_bytes = {64, 0, 0, 0, 16, 0, 64};
  tiles.configure(config);
  CHECK_THROWS_WITH(tiles.zero<1>(), Catch::Contains("configured"));
  CHECK_THROWS_WITH((tiles.multiply<TileProduct::kSignedSigned, 0, 4, 6>()), Catch::Contains("as many rows"));
  config.rows[4] = 2;
  tiles.configure(config);
  CHECK_THROWS_WITH((tiles.multiply<TileProduct::kSignedSigned, 0, 4, 6>()), Catch::Contains("four columns"));
  config.rows[6] = 17;
  CHECK_THROWS_WITH(tiles.configure(config), Catch::Contains("16 rows"));
  config.rows[6] = 4;
  config.palette = 0;
  CHECK_THROWS_WITH(tiles.configure(config), Catch::Contains("palette"));
}

#if defined(__x86_64__)
TEST_CASE("tiles in software are those of the processor, where it has them", "[matrix][amx]") {
  if (!cpu::machine().amx_int8) return;
  Random random(41);
  for (int j = 0; j < 100; ++j) {
    Registers a(1024), b(1024), c(1024);
    for (Registers* bytes : {&a, &b, &c}) {
      for (std::byte& byte : *bytes) byte = static_cast<std::byte>(random.integer(0, 255));
    }
    const int rows = static_cast<int>(random.integer(1, 16));
    const int groups = static_cast<int>(random.integer(1, 16));
    const auto check = [&]<cpu::TileProduct kProduct>() {
      CHECK(product<SoftwareTiles, kProduct>(c, a, b, rows, groups) ==
            product<cpu::HardwareTiles, kProduct>(c, a, b, rows, groups));
    };
    check.operator()<cpu::TileProduct::kUnsignedSigned>();
    check.operator()<cpu::TileProduct::kUnsignedUnsigned>();
    check.operator()<cpu::TileProduct::kSignedSigned>();
    check.operator()<cpu::TileProduct::kSignedUnsigned>();
  }
}
#endif

}  // namespace cimq::kernels::testing
