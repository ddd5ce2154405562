// The CUDA sampler of programmed cells, emulated, against the loops of the reference: the same chip.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "emulation/run.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/programmed_cells.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

std::vector<std::int16_t> by_cuda(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options,
                                  const std::vector<std::int8_t>& w) {
  const auto tables = CellTables::of(hardware);
  const std::int64_t groups = static_cast<std::int64_t>(w.size()) / (plan.outputs * plan.inputs);
  std::vector<std::int16_t> cells(static_cast<std::size_t>(plan.n_w * plan.polarities()) * w.size(), -1);
  const std::size_t bytes = cuda::ir_drop_bytes(IrDrop::of(hardware), plan, hardware, groups);
  std::vector<std::int64_t> memory(bytes / sizeof(std::int64_t));
  cuda::programmed_cells(hardware, tables->view(), plan, groups, options, w.data(), cells.data(),
                         {memory.data(), bytes}, {});
  return cells;
}

/// Matrices of their own, as the groups of a convolution are, side by side in every plane.
std::vector<std::int16_t> by_reference(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options,
                                       const std::vector<std::int8_t>& w) {
  const auto size = static_cast<std::size_t>(plan.outputs * plan.inputs);
  const auto planes = static_cast<std::size_t>(plan.n_w * plan.polarities());
  std::vector<std::int16_t> cells(planes * w.size());
  for (std::size_t begin = 0; begin < w.size(); begin += size) {
    MvmOptions own = options;
    own.first_output += static_cast<std::int64_t>(begin / size) * plan.outputs;
    const auto of_group = programmed_cells_reference(hardware, plan, own, w.data() + begin);
    for (std::size_t plane = 0; plane < planes; ++plane) {
      std::copy_n(of_group.begin() + static_cast<std::ptrdiff_t>(plane * size), size,
                  cells.begin() + static_cast<std::ptrdiff_t>(plane * w.size() + begin));
    }
  }
  return cells;
}

TEST_CASE("cuda programmed_cells: the chip of the reference for every mix of effects", "[cuda][cells]") {
  Random random(29);
  int compared = 0;
  int wired = 0;
  int wired_groups = 0;
  for (int j = 0; j < 150; ++j) {
    Case c = random_case(random);
    add_cell_effects(random, c.hardware);
    c.hardware.cell.read = {};
    leave_out_converters(c);
    c.options.first_output = random.integer(0, 50);
    c.inputs = random.integer(1, 70);
    c.outputs = random.integer(1, 6);
    c.hardware.cols = static_cast<int>(random.integer(1, 20));
    const std::int64_t groups = random.chance(0.4) ? random.integer(2, 4) : 1;
    INFO(c.text() << " groups " << groups);
    const auto w = random_weights(random, groups * c.outputs * c.inputs, c.options.weight_bits);
    MvmPlan plan;
    try {
      plan = make_mvm_plan(c.hardware, c.outputs, c.inputs, c.options);
    } catch (const Error&) {
      continue;
    }
    if (!plan.fractional) continue;
    ++compared;
    wired += IrDrop::of(c.hardware).any() ? 1 : 0;
    wired_groups += IrDrop::of(c.hardware).any() && groups > 1 ? 1 : 0;
    const auto expected = by_reference(c.hardware, plan, c.options, w);
    emulation::in_every_order([&] { REQUIRE(by_cuda(c.hardware, plan, c.options, w) == expected); });
  }
  CHECK(compared > 60);
  CHECK(wired > 20);
  CHECK(wired_groups > 5);
}

TEST_CASE("cuda programmed_cells: the numbers of cells pass 2^32 blocks of words", "[cuda][cells]") {
  Hardware hardware;
  hardware.cell_bits = 2;
  hardware.cell.programming.model = "gaussian";
  hardware.cell.programming.sigma_levels = 0.1;
  MvmOptions options;
  options.weight_bits = 5;
  options.act_bits = 4;
  options.first_output = (std::int64_t{1} << 33) / 63 - 3;
  Random random(3);
  const auto w = random_weights(random, 8 * 63, options.weight_bits);
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kOffset}) {
    hardware.mapping = mapping;
    const MvmPlan plan = make_mvm_plan(hardware, 8, 63, options);
    REQUIRE(plan.fractional);
    const auto wanted = programmed_cells_reference(hardware, plan, options, w.data());
    CHECK(by_cuda(hardware, plan, options, w) == wanted);
    // A chip of its own for every seed.
    options.seed += 1;
    CHECK(by_cuda(hardware, plan, options, w) != wanted);
  }
}

TEST_CASE("cuda certain_cells: every level of every mapping, beyond what 16 bits hold", "[cuda][cells]") {
  Random random(5);
  int largest = 0;
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset}) {
    for (const int cell_bits : {1, 3, 8}) {
      for (const int weight_bits : {1, 4, 8}) {
        Hardware hardware;
        hardware.mapping = mapping;
        hardware.cell_bits = cell_bits;
        MvmOptions options;
        options.weight_bits = weight_bits;
        const MvmPlan plan = make_mvm_plan(hardware, 3, 91, options);
        const auto w = random_weights(random, 3 * 91, weight_bits);
        const auto count = static_cast<std::size_t>(plan.n_w * plan.polarities()) * w.size();
        std::vector<std::int32_t> cells(count + 1, -1);
        cuda::certain_cells(plan, 70, w.data(), cells.data(), {});
        std::size_t at = 0;
        for (int slice = 0; slice < plan.n_w; ++slice) {
          for (int polarity = 0; polarity < plan.polarities(); ++polarity) {
            for (const std::int8_t weight : w) {
              REQUIRE(cells[at] == 70 + 256 * cell_level(plan, weight, slice, polarity));
              largest = std::max(largest, cells[at++]);
            }
          }
        }
        REQUIRE(cells.back() == -1);
      }
    }
  }
  CHECK(largest > 40000);
}

}  // namespace
}  // namespace cimq::kernels::testing
