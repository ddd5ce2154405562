// The CUDA kernels of wire resistance, emulated, against the loops of the CPU: the same conductances.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "emulation/run.h"
#include "kernels/noise/ir_drop.h"
#include "kernels/random_case.h"

namespace cimq::kernels::testing {
namespace {

using Cells = std::vector<std::int16_t>;

constexpr std::int64_t kUntouched = 0x5A5A5A5A5A5A;

struct Layer {
  Hardware hardware;
  MvmPlan plan;  ///< of one group
  std::int64_t groups = 1;

  IrDrop drop() const { return IrDrop::of(hardware); }
  std::int64_t planes() const { return plan.n_w * plan.polarities(); }
  std::int64_t count() const { return planes() * groups * plan.outputs * plan.inputs; }
};

/// Where group `group` of a plane begins in cells of `groups` groups.
std::int64_t place_of(const Layer& layer, std::int64_t plane, std::int64_t group, std::int64_t groups) {
  return (plane * groups + group) * layer.plan.outputs * layer.plan.inputs;
}

/// Group by group, as the CPU has them: matrices of their own.
Cells by_cpu(const Layer& layer, const Cells& cells) {
  const std::int64_t size = layer.plan.outputs * layer.plan.inputs;
  Cells result = cells;
  for (std::int64_t group = 0; group < layer.groups; ++group) {
    Cells own(static_cast<std::size_t>(layer.planes() * size));
    for (std::int64_t plane = 0; plane < layer.planes(); ++plane) {
      std::copy_n(cells.begin() + place_of(layer, plane, group, layer.groups), size,
                  own.begin() + place_of(layer, plane, 0, 1));
    }
    apply_ir_drop(layer.drop(), layer.plan, layer.hardware, own);
    for (std::int64_t plane = 0; plane < layer.planes(); ++plane) {
      std::copy_n(own.begin() + place_of(layer, plane, 0, 1), size,
                  result.begin() + place_of(layer, plane, group, layer.groups));
    }
  }
  return result;
}

/// With room for the sums of `most` bytes.
Cells by_cuda(const Layer& layer, Cells cells, std::size_t most) {
  const std::size_t bytes = cuda::ir_drop_bytes(layer.drop(), layer.plan, layer.hardware, layer.groups, most);
  const std::size_t sums = bytes / sizeof(std::int64_t);
  std::vector<std::int64_t> memory(sums + 1, kUntouched);
  cells.push_back(-7);
  cuda::apply_ir_drop(layer.drop(), layer.plan, layer.hardware, layer.groups, cells.data(), {memory.data(), bytes}, {});
  REQUIRE(memory.back() == kUntouched);
  REQUIRE(cells.back() == -7);
  cells.pop_back();
  return cells;
}

Layer layer_of(const Hardware& hardware, std::int64_t outputs, std::int64_t inputs, int weight_bits,
               std::int64_t groups = 1) {
  MvmOptions options;
  options.weight_bits = weight_bits;
  options.act_bits = 2;
  return {hardware, make_mvm_plan(hardware, outputs, inputs, options), groups};
}

Hardware wired_hardware(Mapping mapping, int rows, int cols) {
  Hardware hardware = plain_hardware();
  hardware.mapping = mapping;
  hardware.rows = rows;
  hardware.cols = cols;
  hardware.cell.g_min_microsiemens = 1.0;
  hardware.cell.g_max_microsiemens = 100.0;
  hardware.wires = {2.0, 3.0, 0.5};
  return hardware;
}

Cells random_cells(Random& random, std::int64_t count, std::int64_t largest) {
  Cells cells(static_cast<std::size_t>(count));
  for (std::int16_t& cell : cells) cell = static_cast<std::int16_t>(random.integer(0, largest));
  return cells;
}

TEST_CASE("cuda apply_ir_drop: the conductances of the CPU, whatever the arrays and the layer", "[cuda][cells]") {
  Random random(61);
  int several_arrays = 0;
  int parts = 0;
  int groups_apart = 0;
  for (int j = 0; j < 60; ++j) {
    const auto mapping = static_cast<Mapping>(j % 3);
    Hardware hardware =
        wired_hardware(mapping, static_cast<int>(random.integer(8, 90)), static_cast<int>(random.integer(3, 40)));
    hardware.cell_bits = static_cast<int>(random.integer(1, 4));
    hardware.wires = {random.chance(0.2) ? 0.0 : random.real(0.0, 20.0), random.real(0.01, 20.0),
                      random.real(0.0, 1.0)};
    const Layer layer = layer_of(hardware, random.integer(1, 8), random.integer(1, 120),
                                 static_cast<int>(random.integer(2, 8)), random.chance(0.4) ? random.integer(2, 3) : 1);
    INFO(hardware.to_json() << " outputs " << layer.plan.outputs << " inputs " << layer.plan.inputs << " slices "
                            << layer.plan.n_w << " groups " << layer.groups);
    const Cells cells = random_cells(random, layer.count(), 4000);
    const Cells expected = by_cpu(layer, cells);
    const std::size_t all = cuda::ir_drop_bytes(layer.drop(), layer.plan, hardware, layer.groups, std::size_t{1} << 40);
    const std::size_t least = cuda::ir_drop_bytes(layer.drop(), layer.plan, hardware, layer.groups, 0);
    several_arrays += layer.plan.row_tiles > 1 && layer.plan.columns > 2 * hardware.cols ? 1 : 0;
    parts += all >= 2 * least ? 1 : 0;
    emulation::in_every_order([&] { REQUIRE(by_cuda(layer, cells, all) == expected); });
    REQUIRE(by_cuda(layer, cells, 0) == expected);
    REQUIRE(by_cuda(layer, cells, (all + least) / 2) == expected);
    if (layer.groups > 1) {  // one matrix of all groups is another one
      const Layer together =
          layer_of(hardware, layer.plan.outputs * layer.groups, layer.plan.inputs, layer.plan.weight_bits);
      groups_apart += by_cuda(together, cells, all) == expected ? 0 : 1;
    }
  }
  CHECK(several_arrays > 5);
  CHECK(parts > 15);
  CHECK(groups_apart > 8);
}

TEST_CASE("cuda apply_ir_drop: sums beyond 32 bits", "[cuda][cells]") {
  Random random(2);
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset}) {
    Hardware hardware = wired_hardware(mapping, 700, 700);
    hardware.wires = {1e-3, 1e-3, 1.0};
    for (const Layer& layer : {layer_of(hardware, 3, 701, 4), layer_of(hardware, 351, 3, 4)}) {
      Cells cells = random_cells(random, layer.count(), 500);
      for (std::int16_t& cell : cells) cell = static_cast<std::int16_t>(kMaxConductance - cell);
      const Cells expected = by_cpu(layer, cells);
      CHECK(*std::min_element(expected.begin(), expected.end()) < kMaxConductance / 3 * 2);
      CHECK(by_cuda(layer, cells, std::size_t{1} << 30) == expected);
    }
  }
}

TEST_CASE("cuda apply_ir_drop: nothing to do without resistance, and memory that is too small is an error",
          "[cuda][cells][errors]") {
  Hardware hardware = wired_hardware(Mapping::kOffset, 16, 8);
  const Layer wired = layer_of(hardware, 9, 20, 4);
  const std::size_t least = cuda::ir_drop_bytes(wired.drop(), wired.plan, hardware, 1, 0);
  CHECK(least == 8 * 20 * sizeof(std::int64_t));
  Cells cells(static_cast<std::size_t>(wired.count()), 100);
  std::vector<std::int64_t> memory(8 * 20);
  CHECK_THROWS_WITH(
      cuda::apply_ir_drop(wired.drop(), wired.plan, hardware, 1, cells.data(), {memory.data(), least - 1}, {}),
      Catch::Contains("need 1280 bytes of memory to work in, got 1279"));
  hardware.wires = {};
  const Layer plain = layer_of(hardware, 9, 20, 4);
  CHECK(cuda::ir_drop_bytes(plain.drop(), plain.plan, hardware, 1) == 0);
  cuda::apply_ir_drop(plain.drop(), plain.plan, hardware, 1, cells.data(), {}, {});
  CHECK(cells == Cells(cells.size(), 100));
}

}  // namespace
}  // namespace cimq::kernels::testing
