#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <utility>

#include "common/cell_model.h"
#include "common/error.h"
#include "common/hardware.h"
#include "common/mapping.h"
#include "kernels/noise/cell_noise.h"
#include "python/bindings.h"

namespace cimq::python {
namespace {

constexpr int kMaxBits = 8;

void check_bits(const char* name, int bits) {
  check(bits >= 1 && bits <= kMaxBits, name, " must be an integer from 1 to ", kMaxBits, ", got ", bits);
}

/// Level of every slice and polarity for every weight value, smallest value first.
pybind11::array_t<std::uint8_t> level_table(const Hardware& hardware, int weight_bits) {
  const int slices = weight_slices(hardware, weight_bits);
  const int both = polarities(hardware.mapping);
  const std::int32_t top = largest_weight(weight_bits);
  pybind11::array_t<std::uint8_t> table({slices, both, 2 * top + 1});
  auto levels = table.mutable_unchecked<3>();
  for (int s = 0; s < slices; ++s) {
    for (int p = 0; p < both; ++p) {
      for (std::int32_t w = -top; w <= top; ++w) {
        levels(s, p, w + top) =
            static_cast<std::uint8_t>(cell_level(hardware.mapping, hardware.cell_bits, weight_bits, w, s, p));
      }
    }
  }
  return table;
}

}  // namespace

void bind_mapping(pybind11::module_& m) {
  using pybind11::arg;
  m.def(
      "weight_range",
      [](int bits) {
        check_bits("weight_bits", bits);
        const IntegerRange range = weight_range(bits);
        return std::pair(range.lo, range.hi);
      },
      arg("weight_bits"), "Smallest and largest weight.");
  m.def(
      "activation_range",
      [](int bits, bool is_signed) {
        check_bits("act_bits", bits);
        const IntegerRange range = activation_range(bits, is_signed);
        return std::pair(range.lo, range.hi);
      },
      arg("act_bits"), arg("is_signed"), "Smallest and largest activation.");
  m.def(
      "weight_slices",
      [](const std::string& hardware, int bits) { return weight_slices(Hardware::from_json(hardware), bits); },
      arg("hardware"), arg("weight_bits"), "Cells per weight.");
  m.def(
      "input_digits",
      [](const std::string& hardware, int bits) { return input_digits(Hardware::from_json(hardware), bits); },
      arg("hardware"), arg("act_bits"), "Input cycles per activation.");
  m.def(
      "applied_input",
      [](const std::string& hardware, int bits, bool is_signed) {
        AppliedInput input = applied_input(Hardware::from_json(hardware), bits, is_signed);
        return std::pair(std::move(input.digit_weights), input.shift);
      },
      arg("hardware"), arg("act_bits"), arg("is_signed"),
      "Weight of every input digit, least significant first, and what is added to the input before.");
  m.def(
      "stored_weight",
      [](const std::string& hardware_json, int bits) {
        const Hardware hardware = Hardware::from_json(hardware_json);
        return std::pair(level_table(hardware, bits), stored_weight(hardware, bits).slice_weights);
      },
      arg("hardware"), arg("weight_bits"),
      "Levels [slice, polarity, weight value] of the cells that hold a weight, and what a level of each slice is "
      "worth.");
  m.def(
      "mapping_facts",
      [](const std::string& hardware_json) {
        const Hardware hardware = Hardware::from_json(hardware_json);
        pybind11::dict facts;
        facts["column_polarities"] = column_polarities(hardware.mapping);
        facts["row_polarities"] = row_polarities(hardware.mapping);
        facts["reference_columns"] = reference_columns(hardware.mapping);
        facts["inputs_per_tile"] = inputs_per_tile(hardware);
        facts["converts_signed"] = converts_signed(hardware);
        facts["converts_columns_apart"] = converts_columns_apart(hardware);
        facts["base_conductance"] = hardware.fractional() ? kernels::CellTables::of(hardware)->base() : 0;
        const CodeRange codes = code_range(hardware.adc.bits.value_or(1), converts_signed(hardware));
        facts["codes"] = hardware.adc.bits ? pybind11::object(pybind11::make_tuple(codes.levels, codes.min, codes.max))
                                           : pybind11::object(pybind11::none());
        return facts;
      },
      arg("hardware"), "What the mapping of a machine decides, whatever the layer.");
}

}  // namespace cimq::python
