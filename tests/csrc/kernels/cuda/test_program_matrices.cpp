// Cells that the device packs against those that the host packs: the same bytes.
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/programmed_cells.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::MvmLayer;
using cuda::Programming;

TEST_CASE("matrices programmed on the emulated device have the bytes of the host", "[cuda][mvm]") {
  Random random(41);
  int computed = 0;
  int fractional = 0;
  int words = 0;
  int reads = 0;
  for (int j = 0; j < 150; ++j) {
    Case c = random_configuration(random);
    if (j % 10 == 0) {  // levels up to 255
      c = Case{};
      c.hardware = plain_hardware();
      c.hardware.mapping = Mapping::kOffset;
      c.hardware.cell_bits = 8;
      c.hardware.adc.bits = 6;
    }
    const int group_count = random.chance(0.3) ? 2 : 1;
    c.outputs = random.integer(1, 90);
    c.inputs = random.integer(1, 120);
    add_column_ranges(random, c, c.outputs * group_count);
    const int chips = random.chance(0.3) ? 2 : 1;
    INFO(c.text() << " groups " << group_count << " chips " << chips);
    const auto w = random_weights(random, c.outputs * c.inputs * group_count, c.options.weight_bits);
    std::vector<MvmProblem> on_host;
    std::vector<MvmProblem> on_device;
    for (int group = 0; group < group_count; ++group) {
      MvmOptions options = c.options;
      options.first_output = group * c.outputs;
      on_host.push_back({c.hardware, w.data() + group * c.outputs * c.inputs, c.outputs, c.inputs, options});
      on_device.push_back({c.hardware, nullptr, c.outputs, c.inputs, options});
    }
    std::optional<MvmLayer> expected;
    try {
      expected.emplace(on_host, chips);
    } catch (const Error&) {
      continue;  // refused configurations have tests of their own
    }
    const MvmLayer layer(on_device, 1, Programming::kOnDevice);
    REQUIRE(layer.programmed().empty());
    REQUIRE(layer.constants() == expected->constants());
    REQUIRE(layer.programmed_bytes(chips) == expected->programmed().size());
    // What lies between the sums and the cells is nobody's: the host has zeros there.
    const std::vector<std::byte> noise(layer.programmed_bytes(chips), std::byte{0x5A});
    AlignedBytes programmed(noise.data(), noise.size());
    std::memset(programmed.data(), 0, layer.cells_begin());
    const MvmPlan& plan = layer.plan();
    for (int chip = 0; chip < chips; ++chip) {
      MvmOptions options = c.options;
      options.chip += static_cast<std::uint32_t>(chip);
      std::vector<std::int16_t> cells;
      if (plan.fractional) {
        cells.resize(static_cast<std::size_t>(plan.n_w * plan.polarities()) * w.size());
        const std::size_t bytes = cuda::ir_drop_bytes(IrDrop::of(c.hardware), plan, c.hardware, group_count);
        std::vector<std::int64_t> memory(bytes / sizeof(std::int64_t));
        cuda::programmed_cells(c.hardware, CellTables::of(c.hardware)->view(), plan, group_count, options, w.data(),
                               cells.data(), {memory.data(), bytes}, {});
      }
      cuda::program_matrices(layer, chip, w.data(), plan.fractional ? cells.data() : nullptr, programmed.data(), {});
    }
    ++computed;
    fractional += layer.plan().fractional ? 1 : 0;
    words += layer.cells() == cuda::Cells::kWords && !layer.plan().fractional ? 1 : 0;
    reads += layer.cells() == cuda::Cells::kReads ? 1 : 0;
    REQUIRE(std::memcmp(programmed.data(), expected->programmed().data(), expected->programmed().size()) == 0);
  }
  CHECK(computed > 90);
  CHECK(fractional > 20);
  CHECK(words > 10);
  CHECK(reads > 20);
}

TEST_CASE("program_matrices refuses chips below 0 and conductances of cells that are levels", "[cuda][mvm][errors]") {
  const std::vector<std::int8_t> w{1, -1};
  const Hardware hw = plain_hardware();
  const MvmLayer layer({MvmProblem{hw, nullptr, 1, 2, {}}}, 1, Programming::kOnDevice);
  const std::vector<std::byte> memory(layer.programmed_bytes(2));
  AlignedBytes programmed(memory.data(), memory.size());
  const auto program = [&](int chip, const std::int16_t* conductances) {
    cuda::program_matrices(layer, chip, w.data(), conductances, programmed.data(), {});
  };
  program(1, nullptr);
  CHECK_THROWS_WITH(program(-1, nullptr), Catch::Contains("chip must be at least 0, got -1"));
  const std::int16_t conductance = 0;
  CHECK_THROWS_WITH(program(0, &conductance), Catch::Contains("fractional"));
}

}  // namespace
}  // namespace cimq::kernels::testing
