#include <catch2/catch.hpp>
#include <string>

#include "common/error.h"
#include "common/hardware.h"

using Catch::Matchers::Contains;
using cimq::Hardware;

TEST_CASE("an empty object is the default machine", "[hardware]") {
  const Hardware hw = Hardware::from_json("{}");
  CHECK(hw.rows == 256);
  CHECK(hw.cell_bits == 4);
  CHECK(!hw.adc.bits.has_value());
  CHECK(!hw.varies());
  CHECK(hw.to_json() == Hardware{}.to_json());
}

TEST_CASE("hardware survives JSON", "[hardware]") {
  Hardware hw;
  hw.name = "mine \"1\"";
  hw.rows = 100;
  hw.mapping = cimq::Mapping::kOffset;
  hw.adc = {7, cimq::AdcRange::kCalibrated, cimq::AdcPlacement::kPerColumn, cimq::AdcGranularity::kColumn};
  hw.cell.programming = {"gaussian", 0.1};
  hw.cell.hrs_ohm = 1e6;
  hw.cell.lrs_ohm = 1e4;
  hw.cell.read = {"proportional", 0.0, std::nullopt, 0.01};
  hw.cell.stuck_at = {0.001, 0.002};
  hw.cell.drift = {0.05, 0.01, 20.0, 3600.0};
  hw.wires = {1.0, 2.0, 0.5};
  hw.timing.mvm_time_us = 0.1;
  hw.resources.crossbars = std::nullopt;
  hw.energy.adc_energy_pj = 1.667;
  hw.sources["timing.mvm_time_us"] = "measured";
  const std::string json = hw.to_json();
  const Hardware back = Hardware::from_json(json);
  CHECK(back.to_json() == json);
  CHECK(back.adc.bits == 7);
  CHECK(back.adc.range == cimq::AdcRange::kCalibrated);
  CHECK(back.adc.granularity == cimq::AdcGranularity::kColumn);
  CHECK(back.timing.mvm_time_us == 0.1);
  CHECK(!back.resources.crossbars.has_value());
  CHECK(back.varies());
}

TEST_CASE("what came to the schema later is written where it is given only", "[hardware]") {
  // Programs and bundles of machines without it stay the same bytes.
  Hardware hw;
  for (const char* key : {"adc_time_us", "vector_time_us", "sample_hold_area_um2", "bus_area_um2"}) {
    CHECK(hw.to_json().find(key) == std::string::npos);
  }
  hw.timing.adc_time_us = 0.25;
  hw.area.bus_area_um2 = 3.0;
  const Hardware back = Hardware::from_json(hw.to_json());
  CHECK(back.timing.adc_time_us == 0.25);
  CHECK(back.area.bus_area_um2 == 3.0);
  CHECK(!back.timing.vector_time_us);
  CHECK(!Hardware::from_json(R"({"timing": {"adc_time_us": null}})").timing.adc_time_us);
}

TEST_CASE("what is impossible is refused by name", "[hardware]") {
  const auto [json, reason] = GENERATE(table<std::string, std::string>({
      {R"({"rows": 0})", "rows must be an integer from 1 to 65536, got 0"},
      {R"({"rows": true})", "rows must be an integer from 1 to 65536, got true"},
      {R"({"rows": 18446744073709551615})", "rows must be an integer"},
      {R"({"cell_bits": 9})", "cell_bits must be an integer from 1 to 8, got 9"},
      {R"({"rowz": 1})", "unknown key 'rowz' (did you mean 'rows'?); allowed: name, rows"},
      {R"({"adc": {"bit": 1}})", "unknown key 'adc.bit' (did you mean 'bits'?)"},
      {R"({"rows": 1, "rows": 2})", "key 'rows' is given twice"},
      {R"({"adc": {"bits": 1, "bits": 2}})", "key 'bits' is given twice"},
      {R"({"mapping": "offse"})", "(did you mean \"offset\"?)"},
      {R"({"mapping": 3})", "mapping must be one of"},
      {R"({"timing": {"write_time_us": 1e400}})", "not valid JSON"},
      {R"({"timing": {"write_time_us": -1}})", "timing.write_time_us must be a number from 0"},
      {R"({"timing": {"mvm_time_us": 0}})", "timing.mvm_time_us must be at least one picosecond"},
      {R"({"timing": {"mvm_time_us": "1"}})", "timing.mvm_time_us must be a number"},
      {R"({"timing": null})", "timing must be an object"},
      {R"({"timing": {"adc_time_us": 1e-9}})", "timing.adc_time_us must be null, 0 or at least one picosecond"},
      {R"({"timing": {"vector_time_us": -1}})", "timing.vector_time_us must be a number from 0"},
      {R"({"cell": {"read": {"sigma": 1}}})", "unknown key 'cell.read.sigma' (did you mean 'sigma_levels'?)"},
      {R"({"cell": {"read": {"sigma_levels": 1}}})",
       "cell.read.sigma_levels must be 0 with model none: it belongs to model constant"},
      {R"({"cell": {"read": {"model": "proportional"}}})", "cell.read.model proportional needs sigma_ratio"},
      {R"({"cell": {"stuck_at": 0}})", "cell.stuck_at must be an object with keys, got 0"},
      {R"({"cell": {"stuck_at": {"hrs_rate": 0.6, "lrs_rate": 0.5}}})", "at most 1 together, got 0.6 and 0.5"},
      {R"({"cell": {"drift": {"t0_s": 20}}})", "time_s must be at least t0_s"},
      {R"({"cell": {"drift": {"nu": 9}}})", "cell.drift.nu must be a number from -4.0 to 4.0, got 9"},
      {R"({"wires": {"bit_line_ohm": 1}})", "wires need a conductance window"},
      {R"({"wires": {"mean_activity": 1.5}})", "wires.mean_activity must be a number from 0.0 to 1.0, got 1.5"},
      {R"({"cell": {"programming": {"model": "gaussian", "sigma_microsiemens": 1}}})", "needs a conductance window"},
      {R"({"cell": {"programming": {"model": "gaussian", "sigma_ratio": 1}}})", "it belongs to model proportional"},
      {R"({"cell": {"programming": {"model": "lognormal"}}})", "model lognormal needs sigma_ln"},
      {R"({"cell": {"programming": {"model": "polynomial"}}})",
       "needs coefficients_microsiemens or coefficients_levels"},
      {R"({"cell": {"programming": {"model": "polynomial", "coefficients_levels": []}}})",
       "coefficients_levels must be a list of 1 to 16 numbers or null, got a list of 0"},
      {R"({"cell": {"programming": {"model": "polynomial", "coefficients_levels": [1, "x"]}}})",
       "coefficients_levels[1] must be a number"},
      {R"({"cell": {"programming": {"model": "table", "sigmas_levels": [0.1, 0.1]}}})",
       "sigmas_levels must have one value per level (16 with cell_bits 4), got 2"},
      {R"({"cell": {"programming": {"model": "table"}}})", "model table needs sigmas_levels or sigmas_microsiemens"},
      {R"({"cell": {"programming": {"model": "weibull"}}})", "must be one of none, gaussian, proportional"},
      {R"({"cell": {"g_min_microsiemens": 100, "g_max_microsiemens": 110, "drift": {"nu": 0.1, "time_s": 10}}})",
       "the top level must conduct at most 127 level steps"},
      {R"({"cell": {"hrs_ohm": 10}})", "cell.hrs_ohm and cell.lrs_ohm must both be given"},
      {R"({"cell": {"g_min_microsiemens": 10, "g_max_microsiemens": 5}})", "the first below the second"},
      {R"({"cell": {"g_min_microsiemens": 1, "g_max_microsiemens": 5, "hrs_ohm": 3}})", "not both"},
      {R"({"cell": {"programming": {"sigma_levels": 0.1}}})", "sigma_levels must be 0 with model none"},
      {R"({"cell_bits": 8, "cell": {"programming": {"model": "gaussian", "sigma_levels": 0.1}}})", "at most 6"},
      {R"({"adc": {"bits": 1}})", "adc.bits must be at least 2"},
      {R"({"adc": {"granularity": "column"}})", "adc.granularity must be slice with adc.range full_scale"},
      {R"({"mapping": "offset", "sign_magnitude": true})", "sign_magnitude must be false"},
      {R"({"mapping": "differential_row", "rows": 1})", "rows must be at least 2"},
      {R"({"resources": {"bus_bytes_per_us": 0}})", "must be positive"},
      {R"({"name": ""})", "name must be a text"},
      {R"({"sources": {"rowz": "x"}})", "unknown key 'sources.rowz'"},
      {R"([])", "the top level must be an object with keys, got a list"},
      {R"({"rows": 1)", "not valid JSON"},
      {"{\"name\": \"\xff\"}", "not valid JSON"},
      {"", "not valid JSON"},
  }));
  CHECK_THROWS_WITH(Hardware::from_json(json), Contains(reason));
}

TEST_CASE("deep nesting is an error, not a crash", "[hardware]") {
  std::string deep(200'000, '[');
  CHECK_THROWS_AS(Hardware::from_json(deep), cimq::Error);
  deep += std::string(200'000, ']');
  CHECK_THROWS_WITH(Hardware::from_json("{\"rows\": " + deep + "}"), Contains("got a list"));
}

TEST_CASE("null stands for the defaults of a group that may be absent", "[hardware]") {
  const Hardware hw = Hardware::from_json(R"({"adc": null, "energy": null, "cell": {"programming": null}})");
  CHECK(hw.to_json() == Hardware{}.to_json());
}

TEST_CASE("validate checks a struct filled by hand", "[hardware]") {
  Hardware hw;
  CHECK_NOTHROW(hw.validate());
  hw.cols = 0;
  CHECK_THROWS_WITH(hw.validate(), Contains("cols must be an integer"));
}
