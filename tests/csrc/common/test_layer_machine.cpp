// The machine of a layer that is not as that of the network: what changes, what stays, and what is refused.
#include <catch2/catch.hpp>

#include "common/error.h"
#include "common/layer_machine.h"

using namespace cimq;

TEST_CASE("A layer's machine is the network's with what the layer chooses", "[layer_machine]") {
  Hardware hw;
  hw.name = "mine";
  hw.adc.bits = 8;
  hw.sign_magnitude = true;
  hw.sources = {{"adc.bits", "a paper"}, {"mapping", "the same"}, {"rows", "another"}};
  CHECK(layer_hardware(hw, {}, "fc").to_json() == hw.to_json());

  Hardware expected = hw;
  expected.adc.bits = 4;
  expected.sources.erase("adc.bits");
  CHECK(layer_hardware(hw, {4, std::nullopt}, "fc").to_json() == expected.to_json());
  CHECK(layer_hardware(hw, {8, Mapping::kDifferentialColumn}, "fc").to_json() == hw.to_json());

  expected = hw;
  expected.mapping = Mapping::kDifferentialRow;
  expected.sources.erase("mapping");
  CHECK(layer_hardware(hw, {std::nullopt, Mapping::kDifferentialRow}, "fc").to_json() == expected.to_json());
  expected.mapping = Mapping::kOffset;
  expected.sign_magnitude = false;  // there is no pair whose sign could be saved
  CHECK(layer_hardware(hw, {std::nullopt, Mapping::kOffset}, "fc").to_json() == expected.to_json());
}

TEST_CASE("Choices that a machine cannot have are refused by name", "[layer_machine]") {
  const auto refused = [](const Hardware& hw, const LayerMachine& machine) -> std::string {
    try {
      layer_hardware(hw, machine, "fc\n");
    } catch (const Error& error) {
      return error.what();
    }
    return "not refused";
  };
  Hardware hw;
  hw.name = "mine";
  CHECK(
      refused(hw, {6, std::nullopt}) ==
      "policy: layer 'fc\\n' has adc_bits 6, but the converters of hardware 'mine' are ideal (adc.bits null): give the "
      "hardware those that it has");
  hw.adc.bits = 8;
  CHECK_THAT(
      refused(hw, {1, Mapping::kDifferentialRow}),
      Catch::StartsWith("policy: layer 'fc\\n' cannot have 1-bit converters, differential_row on hardware 'mine': "
                        "hardware: adc.bits must be at least 2"));
  hw.rows = 1;
  CHECK_THAT(refused(hw, {std::nullopt, Mapping::kDifferentialRow}), Catch::Contains("rows must be at least 2"));
}

TEST_CASE("Mappings are found by their names", "[layer_machine]") {
  for (const Mapping mapping : {Mapping::kDifferentialColumn, Mapping::kDifferentialRow, Mapping::kOffset}) {
    CHECK(mapping_named(name_of(mapping)) == mapping);
  }
  CHECK_FALSE(mapping_named("column").has_value());
}
