#include "kernels/cpu/isa/processor.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "common/error.h"

namespace cimq::kernels::cpu {
namespace {

using Member = bool Processor::*;

struct Name {
  const char* name;
  Member has;
};

const std::vector<Name>& all_names() {
  static const std::vector<Name> kNames = {
      {"avx2", &Processor::avx2},
      {"f16c", &Processor::f16c},
      {"avx512", &Processor::avx512},
      {"avx512vnni", &Processor::avx512_vnni},
      {"avx512vpopcntdq", &Processor::avx512_vpopcntdq},
      {"amx_int8", &Processor::amx_int8},
      {"neon", &Processor::neon},
      {"neon_dotprod", &Processor::neon_dotprod},
  };
  return kNames;
}

/// A step of the ladder.
struct Step {
  const char* name;
  std::vector<Member> needs;
  std::vector<Member> also;  ///< is used where it is there
};

/// Best first, architecture by architecture.
const std::vector<Step>& all_steps() {
  static const std::vector<Step> kSteps = {
      {"amx",
       {&Processor::avx2, &Processor::avx512, &Processor::avx512_vnni, &Processor::amx_int8},
       {&Processor::f16c, &Processor::avx512_vpopcntdq}},
      {"avx512",
       {&Processor::avx2, &Processor::avx512, &Processor::avx512_vnni},
       {&Processor::f16c, &Processor::avx512_vpopcntdq}},
      {"avx2", {&Processor::avx2}, {&Processor::f16c}},
      {"neon_dotprod", {&Processor::neon, &Processor::neon_dotprod}, {}},
      {"neon", {&Processor::neon}, {}},
      {"scalar", {}, {}},
  };
  return kSteps;
}

#if defined(__x86_64__)
/// Not every compiler's __builtin_cpu_supports knows f16c.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

/// Tiles are state that the system saves only for processes that have asked for it (Linux, arch/x86/xstate).
bool has_amx_int8() {
#if defined(__linux__)
  constexpr unsigned kOsxsave = 1U << 27;                 // leaf 1 ecx: XCR0 may be read
  constexpr unsigned kTileAndInt8 = 1U << 24 | 1U << 25;  // leaf 7 edx
  constexpr unsigned kTileState = 1U << 17 | 1U << 18;    // XCR0: configuration and data
  constexpr long kRequestPermission = 0x1023;             // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;                          // XFEATURE_XTILEDATA
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kOsxsave) == 0) return false;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kTileAndInt8) != kTileAndInt8) return false;
  unsigned state = 0;
  unsigned high = 0;
  asm volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
  if ((state & kTileState) != kTileState) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

Processor look_at_machine() {
  Processor found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  found.avx2 = __builtin_cpu_supports("avx2") != 0;
  found.f16c = found.avx2 && has_f16c();  // the system must save its registers, as AVX2 needs it too
  found.avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                 __builtin_cpu_supports("avx512vl") != 0;
  found.avx512_vnni = __builtin_cpu_supports("avx512vnni") != 0;
  found.avx512_vpopcntdq = __builtin_cpu_supports("avx512vpopcntdq") != 0;
  found.amx_int8 = has_amx_int8();
#elif defined(__aarch64__)
  found.neon = true;  // part of the architecture
#if defined(__linux__)
  found.neon_dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(__APPLE__)
  found.neon_dotprod = true;  // every 64-bit Apple desktop processor
#endif
#endif
  return found;
}

std::vector<Isa> find_isas() {
  std::vector<Isa> found;
  for (const Step& step : all_steps()) {
    if (!std::all_of(step.needs.begin(), step.needs.end(), [](Member has) { return machine().*has; })) continue;
    Processor used;
    for (const Member member : step.needs) used.*member = true;
    for (const Member member : step.also) used.*member = machine().*member;
    found.push_back({step.name, found.size(), used});
  }
  return found;
}

const Isa& isa_named(std::string_view name) {
  std::string names;
  for (const Isa& isa : available_isas()) {
    if (name == isa.name) return isa;
    names += (names.empty() ? "" : ", ") + isa.name;
  }
  throw Error(
      message("CIMQ_CPU_ISA: must be one of the instruction sets that this machine can run (", names, "), got ", name));
}

std::atomic<const Isa*> forced{nullptr};

}  // namespace

std::vector<std::string> Processor::names() const {
  std::vector<std::string> found;
  for (const Name& name : all_names()) {
    if (this->*name.has) found.emplace_back(name.name);
  }
  return found;
}

const Processor& machine() {
  static const Processor kMachine = look_at_machine();
  return kMachine;
}

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> kIsas = find_isas();
  return kIsas;
}

const Isa& choose_isa(const char* wanted) {
  static const Isa kWhole = {available_isas().front().name, 0, machine()};
  return wanted == nullptr || *wanted == '\0' ? kWhole : isa_named(wanted);
}

const Isa& isa_in_use() {
  const Isa* isa = forced.load(std::memory_order_acquire);
  if (isa != nullptr) return *isa;
  // A throwing initialiser runs again on the next call, so that every use of a wrong name gets the message.
  static const Isa& chosen = choose_isa(std::getenv("CIMQ_CPU_ISA"));
  return chosen;
}

void force_isa(std::string_view isa) {
  forced.store(isa.empty() ? nullptr : &isa_named(isa), std::memory_order_release);
}

}  // namespace cimq::kernels::cpu
