// Share of the machine's int8 peak that the crossbar MVM reaches, on one thread.
//
// The peak is measured in the same run, interleaved with the kernel, with the same instruction on registers alone:
// tdpbusd for amx, vpdpbusd for avx512, vpmaddubsw + vpaddw for avx2, a compiled dot product for scalar. Work is
// counted as the hardware does it: outputs * inputs * input digits * weight slices multiply-adds per row of the batch.
// Single-bit cells are counted in the same unit and can exceed the peak: bit counts do their work, not int8 products.
//
// --noise: cells vary. --read constant|proportional: every access does, too. --program: time programming in place of
// products, on N threads. --without-tiles: AMX kernels whose tile instructions do nothing.
//
//   crossbar_mvm_peak [--json] [--isa NAME] [--noise] [--read MODEL] [--program N] [--without-tiles] [--shape TEXT]
//                     [--repeats N]
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "int8_peak.h"
#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/mvm/crossbar_mvm.h"
#include "kernels/cpu/parallel.h"
#include "without_tiles.h"

namespace {

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int programming_threads = 1;

void on_threads(std::int64_t count, std::int64_t grain, const cimq::kernels::cpu::ParallelBody& body) {
  const std::int64_t parts = std::clamp<std::int64_t>(count / grain, 1, programming_threads);
  std::vector<std::thread> threads;
  for (std::int64_t part = 1; part < parts; ++part) {
    threads.emplace_back([&body, count, part, parts] { body(count * part / parts, count * (part + 1) / parts); });
  }
  body(0, count / parts);
  for (std::thread& thread : threads) thread.join();
}

struct Shape {
  const char* name;
  std::int64_t batch, inputs, outputs;
  int rows, cell_bits;
};

struct Options {
  bool json = false;
  bool noise = false;
  int program = 0;  ///< threads
  bool without_tiles = false;
  std::string read;
  int repeats = 40;
  std::string isa;
  std::string shape;  ///< only shapes whose name contains it
};

void measure(const Shape& shape, const Options& options, bool first) {
  using cimq::kernels::cpu::CrossbarMvm;
  cimq::Hardware hardware;
  hardware.rows = shape.rows;
  hardware.cell_bits = shape.cell_bits;
  hardware.dac_bits = 1;
  hardware.adc = {8, cimq::AdcRange::kFullScale, cimq::AdcPlacement::kDifferential};
  if (options.noise) hardware.cell.programming = {"gaussian", 0.1};
  if (options.read == "constant") hardware.cell.read = {"constant", 0.05};
  if (options.read == "proportional") hardware.cell.read = {"proportional", 0.0, std::nullopt, 0.05};
  std::vector<std::int8_t> w(static_cast<std::size_t>(shape.outputs * shape.inputs));
  std::vector<std::uint8_t> x(static_cast<std::size_t>(shape.batch * shape.inputs));
  std::uint32_t state = 1;
  const auto next = [&state] { return (state = state * 1664525U + 1013904223U) >> 24; };
  for (auto& value : w) value = static_cast<std::int8_t>(std::max(-127, static_cast<int>(next()) - 128));
  for (auto& value : x) value = static_cast<std::uint8_t>(next());
  const CrossbarMvm mvm({hardware, w.data(), shape.outputs, shape.inputs, {}});
  std::vector<float> y(static_cast<std::size_t>(shape.batch * shape.outputs));

  double best_kernel = 1e30;
  double best_peak = 0.0;
  for (int j = 0; j < options.repeats; ++j) {
    double products = 0.0;
    const double time = seconds([&] { products = cimq::benchmarks::int8_peak_products(options.isa); });
    best_peak = std::max(best_peak, products / time);
    best_kernel = std::min(best_kernel, seconds([&] {
                             if (options.program > 0) {
                               const CrossbarMvm again({hardware, w.data(), shape.outputs, shape.inputs, {}});
                             } else {
                               mvm.run(x.data(), shape.batch, y.data());
                             }
                           }));
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

bool is_read_model(const std::string& name) { return name == "constant" || name == "proportional"; }

int run(int argc, char** argv) {
  Options options;
  for (int j = 1; j < argc; ++j) {
    const std::string argument = argv[j];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--noise") {
      options.noise = true;
    } else if (argument == "--without-tiles") {
      options.without_tiles = true;
    } else if (argument == "--program" && j + 1 < argc) {
      options.program = programming_threads = std::max(1, std::stoi(argv[++j]));
    } else if (argument == "--read" && j + 1 < argc && (options.read = argv[++j], is_read_model(options.read))) {
      continue;
    } else if (argument == "--isa" && j + 1 < argc) {
      options.isa = argv[++j];
    } else if (argument == "--shape" && j + 1 < argc) {
      options.shape = argv[++j];
    } else if (argument == "--repeats" && j + 1 < argc) {
      options.repeats = std::max(1, std::stoi(argv[++j]));
    } else {
      std::fprintf(stderr,
                   "usage: crossbar_mvm_peak [--json] [--isa NAME] [--noise] [--read constant|proportional] [--program "
                   "N] [--without-tiles] "
                   "[--shape TEXT] [--repeats N]\n");
      return 2;
    }
  }
  cimq::kernels::cpu::force_isa(options.isa);
  cimq::kernels::cpu::use_threads(on_threads);
  options.isa = cimq::kernels::cpu::isa_in_use().name;
  if (options.without_tiles && !cimq::benchmarks::run_without_tiles()) {
    std::fprintf(stderr, "crossbar_mvm_peak: --without-tiles needs AVX-512 VNNI\n");
    return 1;
  }
  const Shape shapes[] = {
      {"256x512x512, 128 rows, 2-bit cells", 256, 512, 512, 128, 2},
      {"256x512x512, 256 rows, 4-bit cells", 256, 512, 512, 256, 4},
      {"256x512x512, 128 rows, 1-bit cells", 256, 512, 512, 128, 1},
      {"ResNet-18 layer 3 (196x2304x256), 256 rows", 196, 2304, 256, 256, 4},
      {"ResNet-20 stage 1 (1024x144x16), 256 rows", 1024, 144, 16, 256, 4},
  };
  if (options.json) std::printf("[\n");
  bool first = true;
  for (const Shape& shape : shapes) {
    if (std::string(shape.name).find(options.shape) == std::string::npos) continue;
    measure(shape, options, first);
    first = false;
  }
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
