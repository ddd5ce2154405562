// Cells that the device packs against those that the host packs: the same image.
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <vector>

#include "kernels/cpu/program/programmed_cells.h"
#include "kernels/cuda/aligned_bytes.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using cuda::MvmLayer;
using cuda::Programming;

TEST_CASE("matrices programmed on the emulated device have the image of the host", "[cuda][mvm]") {
  Random random(41);
  int computed = 0;
  int fractional = 0;
  int words = 0;
  for (int j = 0; j < 150; ++j) {
    Case c = random_configuration(random);
    c.hardware.cell.read = {};
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
    const MvmLayer layer(on_device, chips, Programming::kOnDevice);
    REQUIRE(layer.image().size() == expected->image().size());
    const std::vector<std::byte> noise(layer.image().size(), std::byte{0x5A});
    AlignedBytes image(noise.data(), noise.size());
    const std::size_t tables = layer.tables_begin();
    std::memcpy(image.data() + tables, layer.image().data() + tables, layer.image().size() - tables);
    for (int chip = 0; chip < chips; ++chip) {
      for (int group = 0; group < group_count; ++group) {
        const MvmProblem& problem = on_host[static_cast<std::size_t>(group)];
        MvmOptions options = problem.options;
        options.chip += static_cast<std::uint32_t>(chip);
        std::optional<cpu::ProgrammedCells> cells;
        if (layer.plan().fractional) cells.emplace(c.hardware, problem.plan(), options, problem.w);
        cuda::program_matrix(layer, chip, group, problem.w, cells ? cells->values().data() : nullptr, image.data(), {});
      }
    }
    ++computed;
    fractional += layer.plan().fractional ? 1 : 0;
    words += layer.words() && !layer.plan().fractional ? 1 : 0;
    REQUIRE(std::memcmp(image.data(), expected->image().data(), expected->image().size()) == 0);
  }
  CHECK(computed > 90);
  CHECK(fractional > 20);
  CHECK(words > 10);
}

TEST_CASE("program_matrix refuses chips and groups that the layer has not", "[cuda][mvm][errors]") {
  const std::vector<std::int8_t> w{1, -1};
  const Hardware hw = plain_hardware();
  const MvmLayer layer({MvmProblem{hw, nullptr, 1, 2, {}}}, 2, Programming::kOnDevice);
  AlignedBytes image(layer.image().data(), layer.image().size());
  const auto program = [&](int chip, int group, const std::int16_t* conductances) {
    cuda::program_matrix(layer, chip, group, w.data(), conductances, image.data(), {});
  };
  program(1, 0, nullptr);
  CHECK_THROWS_WITH(program(2, 0, nullptr), Catch::Contains("chip must lie in 0..1, got 2"));
  CHECK_THROWS_WITH(program(0, 1, nullptr), Catch::Contains("group must lie in 0..0, got 1"));
  const std::int16_t conductance = 0;
  CHECK_THROWS_WITH(program(0, 0, &conductance), Catch::Contains("fractional"));
}

}  // namespace
}  // namespace cimq::kernels::testing
