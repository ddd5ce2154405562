#include <algorithm>
#include <catch2/catch.hpp>

#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/tile/dispatch.h"

namespace cimq::kernels::testing {
namespace {

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

TEST_CASE("an unknown instruction set is refused with the names of the known ones", "[isa][errors]") {
  CHECK_THROWS_WITH(cpu::force_isa("sse9"), Catch::Contains("scalar") && Catch::Contains("sse9"));
  CHECK(cpu::choose_isa("scalar").name == "scalar");
  CHECK(cpu::choose_isa(nullptr).name == cpu::available_isas().front().name);
  CHECK(cpu::choose_isa("").name == cpu::available_isas().front().name);
  CHECK_THROWS_WITH(cpu::choose_isa("AVX"), Catch::Contains("CIMQ_CPU_ISA") && Catch::Contains("AVX"));
  CHECK(cpu::available_isas().back().name == "scalar");
  if (cpu::machine().amx_int8) {
    CHECK(cpu::choose_isa("amx").used.amx_int8);
  } else {
    CHECK_THROWS_WITH(cpu::choose_isa("amx"), Catch::Contains("this machine can run (") && Catch::Contains("got amx"));
  }
}

TEST_CASE("an instruction set uses nothing that the machine lacks, and scalar nothing at all", "[isa]") {
  const auto machine = cpu::machine().names();
  CHECK(cpu::choose_isa(nullptr).used.names() == machine);
  for (const cpu::Isa& isa : cpu::available_isas()) {
    INFO(isa.name);
    for (const std::string& name : isa.used.names()) CHECK(contains(machine, name));
    CHECK(&cpu::available_isas()[isa.index] == &isa);
  }
  CHECK(cpu::available_isas().back().used.names().empty());
  CHECK(contains(machine, "avx2") == cpu::machine().avx2);
  CHECK(contains(machine, "neon") == cpu::machine().neon);
}

TEST_CASE("a forced instruction set reaches every choice of kernels", "[isa]") {
  REQUIRE(cpu::available_kernels().size() == cpu::available_isas().size());
  for (const cpu::Isa& isa : cpu::available_isas()) {
    INFO(isa.name);
    cpu::force_isa(isa.name);
    CHECK(cpu::isa_in_use().name == isa.name);
    CHECK(cpu::in_use().names() == isa.used.names());
    CHECK(&cpu::active_kernels() == &cpu::available_kernels()[isa.index]);
    cpu::force_isa("");
  }
}

}  // namespace cimq::kernels::testing
