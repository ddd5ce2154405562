// Share of the machine's int8 peak that the crossbar MVM reaches, on one thread.
//
// The peak is measured in the same run, interleaved with the kernel, with the same instruction on registers alone:
// vpdpbusd for avx512, vpmaddubsw + vpaddw for avx2, a compiled dot product for scalar. Work is counted as the hardware
// does it: outputs * inputs * input digits * weight slices multiply-adds per row of the batch.
// Single-bit cells are counted in the same unit and can exceed the peak: bit counts do their work, not int8 products.
//
//   crossbar_mvm_peak [--json] [--isa NAME] [--noise] [--repeats N]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/target_region.h"
#include "kernels/crossbar_mvm.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms in gcc 12's own AVX-512 header (GCC bug 105593)
#endif
#include <immintrin.h>
#endif

namespace {

constexpr std::int64_t kPeakRounds = 200000;
volatile std::int32_t sink = 0;

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx512f,avx512bw,avx512vl,avx512vnni")
/// Returns the multiply-adds done. The loop itself is assembly, so that nothing but the instruction is measured: twelve
/// independent sums, more than its latency needs.
double peak_avx512() {
  std::int64_t rounds = kPeakRounds;
  const __m512i digits = _mm512_set1_epi8(1);
  const __m512i cells = _mm512_set1_epi8(3);
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
  asm volatile(
      "1:\n"
      "vpdpbusd %13, %14, %0\n vpdpbusd %13, %14, %1\n vpdpbusd %13, %14, %2\n vpdpbusd %13, %14, %3\n"
      "vpdpbusd %13, %14, %4\n vpdpbusd %13, %14, %5\n vpdpbusd %13, %14, %6\n vpdpbusd %13, %14, %7\n"
      "vpdpbusd %13, %14, %8\n vpdpbusd %13, %14, %9\n vpdpbusd %13, %14, %10\n vpdpbusd %13, %14, %11\n"
      "dec %12\n jnz 1b\n"
      : "+v"(a), "+v"(b), "+v"(c), "+v"(d), "+v"(e), "+v"(f), "+v"(g), "+v"(h), "+v"(i), "+v"(j), "+v"(k), "+v"(l),
        "+r"(rounds)
      : "v"(cells), "v"(digits));
  return static_cast<double>(kPeakRounds) * 12 * 64;
}
CIMQ_TARGET_REGION_END

CIMQ_TARGET_REGION("avx2")
double peak_avx2() {
  __m256i sums[8];
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  const __m256i digits = _mm256_set1_epi8(1);
  const __m256i cells = _mm256_set1_epi8(3);
  for (std::int64_t round = 0; round < kPeakRounds; ++round) {
#pragma GCC unroll 8
    for (auto& sum : sums) {
      __m256i product;
      asm volatile("vpmaddubsw %2, %1, %0" : "=x"(product) : "x"(digits), "x"(cells));
      sum = _mm256_add_epi16(sum, product);
    }
  }
  for (int j = 1; j < 8; ++j) sums[0] = _mm256_add_epi16(sums[0], sums[j]);
  sink = _mm256_extract_epi16(sums[0], 0);
  return static_cast<double>(kPeakRounds) * 8 * 32;
}
CIMQ_TARGET_REGION_END
#endif

double peak_scalar() {
  std::array<std::uint8_t, 1024> digits;
  std::array<std::int8_t, 1024> cells;
  digits.fill(1);
  cells.fill(3);
  std::int32_t sum = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    asm volatile("" : : "r"(digits.data()), "r"(cells.data()) : "memory");
    for (std::size_t j = 0; j < digits.size(); ++j) sum += std::int32_t{digits[j]} * cells[j];
  }
  sink = sum;
  return double{kRounds} * 1024;
}

double peak(const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512") return peak_avx512();
  if (isa == "avx2") return peak_avx2();
#endif
  return peak_scalar();
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Shape {
  const char* name;
  std::int64_t batch, inputs, outputs;
  int rows, cell_bits;
};

struct Options {
  bool json = false;
  bool noise = false;
  int repeats = 40;
  std::string isa;
};

void measure(const Shape& shape, const Options& options, bool first) {
  using cimq::kernels::CrossbarMvm;
  cimq::Hardware hardware;
  hardware.rows = shape.rows;
  hardware.cell_bits = shape.cell_bits;
  hardware.dac_bits = 1;
  hardware.adc = {8, cimq::AdcRange::kFullScale, cimq::AdcPlacement::kDifferential};
  if (options.noise) hardware.cell.programming = {"gaussian", 0.1};
  std::vector<std::int8_t> w(static_cast<std::size_t>(shape.outputs * shape.inputs));
  std::vector<std::uint8_t> x(static_cast<std::size_t>(shape.batch * shape.inputs));
  std::uint32_t state = 1;
  const auto next = [&state] { return (state = state * 1664525U + 1013904223U) >> 24; };
  for (auto& value : w) value = static_cast<std::int8_t>(std::max(-127, static_cast<int>(next()) - 128));
  for (auto& value : x) value = static_cast<std::uint8_t>(next());
  const CrossbarMvm mvm(hardware, w.data(), shape.outputs, shape.inputs, {});
  std::vector<float> y(static_cast<std::size_t>(shape.batch * shape.outputs));

  double best_kernel = 1e30;
  double best_peak = 0.0;
  for (int j = 0; j < options.repeats; ++j) {
    double products = 0.0;
    const double time = seconds([&] { products = peak(options.isa); });
    best_peak = std::max(best_peak, products / time);
    best_kernel = std::min(best_kernel, seconds([&] { mvm.run(x.data(), shape.batch, y.data()); }));
  }
  const double work = static_cast<double>(shape.batch * shape.inputs * shape.outputs) * mvm.plan().n_x * mvm.plan().n_w;
  const double rate = work / best_kernel;
  if (options.json) {
    std::printf(
        "%s  {\"name\": \"%s\", \"isa\": \"%s\", \"milliseconds\": %.4f, \"gmac_per_s\": %.1f, "
        "\"peak_gmac_per_s\": %.1f, \"share_of_peak\": %.3f}",
        first ? "" : ",\n", shape.name, options.isa.c_str(), best_kernel * 1e3, rate / 1e9, best_peak / 1e9,
        rate / best_peak);
  } else {
    std::printf("%-44s %8s %9.3f ms %8.1f GMAC/s, peak %7.1f GMAC/s, share %5.1f %%\n", shape.name, options.isa.c_str(),
                best_kernel * 1e3, rate / 1e9, best_peak / 1e9, 100.0 * rate / best_peak);
  }
}

int run(int argc, char** argv) {
  Options options;
  for (int j = 1; j < argc; ++j) {
    const std::string argument = argv[j];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--noise") {
      options.noise = true;
    } else if (argument == "--isa" && j + 1 < argc) {
      options.isa = argv[++j];
    } else if (argument == "--repeats" && j + 1 < argc) {
      options.repeats = std::max(1, std::stoi(argv[++j]));
    } else {
      std::fprintf(stderr, "usage: crossbar_mvm_peak [--json] [--isa NAME] [--noise] [--repeats N]\n");
      return 2;
    }
  }
  cimq::kernels::cpu::force_isa(options.isa);
  options.isa = cimq::kernels::cpu::active_kernels().isa;
  const Shape shapes[] = {
      {"256x512x512, 128 rows, 2-bit cells", 256, 512, 512, 128, 2},
      {"256x512x512, 256 rows, 4-bit cells", 256, 512, 512, 256, 4},
      {"256x512x512, 128 rows, 1-bit cells", 256, 512, 512, 128, 1},
      {"ResNet-18 layer 3 (196x2304x256), 256 rows", 196, 2304, 256, 256, 4},
      {"ResNet-20 stage 1 (1024x144x16), 256 rows", 1024, 144, 16, 256, 4},
  };
  if (options.json) std::printf("[\n");
  for (const Shape& shape : shapes) measure(shape, options, &shape == shapes);
  if (options.json) std::printf("\n]\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "crossbar_mvm_peak: %s\n", error.what());
    return 1;
  }
}
