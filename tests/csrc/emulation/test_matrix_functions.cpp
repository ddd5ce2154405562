// The software tensor core against plain loops. Whole matrices go through shared memory as the kernels' do, and each
// position is told apart from every other: a layout that is wrong anywhere gives other numbers.
#include <catch2/catch.hpp>
#include <cstdint>
#include <random>
#include <vector>

#include "emulation/run.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/mma.h"

namespace cimq::emulation {
namespace {

using Catch::Matchers::Contains;
using kernels::cuda::Grid;
using kernels::cuda::shared_memory;
using kernels::cuda::SharedArray;

constexpr int kRows = 16;
constexpr int kColumns = 8;
constexpr int kDepth = 32;

template <typename... Parameters>
void start(int threads, std::size_t shared_bytes, void (*kernel)(Parameters...),
           std::type_identity_t<Parameters>... arguments) {
  const Grid grid = {1, static_cast<unsigned>(threads), shared_bytes};
  kernels::cuda::launch({"an_op", "a_kernel", {}}, grid, {}, kernel, arguments...);
}

// ---- positions: registers to matrix elements, as tables of the PTX manual ----

struct Place {
  int row;
  int column;
};
Place place_of_a(int lane, int reg, int byte) {
  return {lane / 4 + (reg == 1 || reg == 3 ? 8 : 0), lane % 4 * 4 + byte + (reg >= 2 ? 16 : 0)};
}
Place place_of_b(int lane, int reg, int byte) { return {lane % 4 * 4 + byte + (reg == 1 ? 16 : 0), lane / 4}; }
Place place_of_c(int lane, int reg) { return {lane / 4 + (reg >= 2 ? 8 : 0), lane % 4 * 2 + (reg & 1)}; }

/// d [lane][4] of operands in registers, a [lane][4], b [lane][2].
template <bool kSignedA, bool kSignedB>
__global__ void product(const std::uint32_t* a, const std::uint32_t* b, std::int32_t* d) {
  const unsigned lane = threadIdx.x;
  std::uint32_t of_a[4];
  std::uint32_t of_b[2];
  std::int32_t of_d[4];
  for (unsigned j = 0; j < 4; ++j) of_a[j] = a[lane * 4 + j];
  for (unsigned j = 0; j < 2; ++j) of_b[j] = b[lane * 2 + j];
  for (unsigned j = 0; j < 4; ++j) of_d[j] = d[lane * 4 + j];
  kernels::cuda::multiply_add<kSignedA, kSignedB>(of_d, of_a, of_b, of_d);
  for (unsigned j = 0; j < 4; ++j) d[lane * 4 + j] = of_d[j];
}

using ProductKernel = void (*)(const std::uint32_t*, const std::uint32_t*, std::int32_t*);

struct Matrices {
  std::uint8_t a[kRows][kDepth] = {};
  std::uint8_t b[kDepth][kColumns] = {};
  std::int32_t c[kRows][kColumns] = {};

  /// D from the kernel, put back in place.
  std::vector<std::int32_t> through(ProductKernel kernel) const {
    std::vector<std::uint32_t> of_a(128);
    std::vector<std::uint32_t> of_b(64);
    std::vector<std::int32_t> of_d(128);
    for (int lane = 0; lane < 32; ++lane) {
      for (int byte = 0; byte < 4; ++byte) {
        for (int reg = 0; reg < 4; ++reg) {
          const Place p = place_of_a(lane, reg, byte);
          of_a[static_cast<std::size_t>(4 * lane + reg)] |= std::uint32_t{a[p.row][p.column]} << (8 * byte);
        }
        for (int reg = 0; reg < 2; ++reg) {
          const Place p = place_of_b(lane, reg, byte);
          of_b[static_cast<std::size_t>(2 * lane + reg)] |= std::uint32_t{b[p.row][p.column]} << (8 * byte);
        }
      }
      for (int reg = 0; reg < 4; ++reg) {
        const Place p = place_of_c(lane, reg);
        of_d[static_cast<std::size_t>(4 * lane + reg)] = c[p.row][p.column];
      }
    }
    start(32, 0, kernel, of_a.data(), of_b.data(), of_d.data());
    std::vector<std::int32_t> d(kRows * kColumns);
    for (int lane = 0; lane < 32; ++lane) {
      for (int reg = 0; reg < 4; ++reg) {
        const Place p = place_of_c(lane, reg);
        d[static_cast<std::size_t>(p.row * kColumns + p.column)] = of_d[static_cast<std::size_t>(4 * lane + reg)];
      }
    }
    return d;
  }

  std::vector<std::int32_t> expected(bool signed_a, bool signed_b) const {
    std::vector<std::int32_t> d;
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < kColumns; ++column) {
        auto sum = static_cast<std::uint32_t>(c[row][column]);
        for (int k = 0; k < kDepth; ++k) {
          const int left = signed_a ? static_cast<std::int8_t>(a[row][k]) : a[row][k];
          const int right = signed_b ? static_cast<std::int8_t>(b[k][column]) : b[k][column];
          sum += static_cast<std::uint32_t>(left * right);
        }
        d.push_back(static_cast<std::int32_t>(sum));
      }
    }
    return d;
  }
};

TEST_CASE("every pair of elements of A and B meets in the element of D that plain loops name", "[emulation][mma]") {
  // One element of A and one line of B at a time: 1 at (row, k) against B[k][column] = 1 + 8 k + column (mod 251).
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < kDepth; ++k) {
      Matrices m;
      m.a[row][k] = 1;
      for (int depth = 0; depth < kDepth; ++depth) {
        for (int column = 0; column < kColumns; ++column) {
          m.b[depth][column] = static_cast<std::uint8_t>((1 + kColumns * depth + column) % 251);
        }
      }
      INFO("row " << row << ", k " << k);
      REQUIRE(m.through(&product<false, false>) == m.expected(false, false));
    }
  }
}

TEST_CASE("the product of bytes of every sign equals plain loops, modulo 2^32", "[emulation][mma]") {
  std::mt19937 random(5);
  for (int turn = 0; turn < 8; ++turn) {
    Matrices m;
    for (auto& line : m.a) {
      for (auto& value : line) value = static_cast<std::uint8_t>(random());
    }
    for (auto& line : m.b) {
      for (auto& value : line) value = static_cast<std::uint8_t>(random());
    }
    for (auto& line : m.c) {
      for (auto& value : line) value = static_cast<std::int32_t>(random());
    }
    REQUIRE(m.through(&product<false, false>) == m.expected(false, false));
    REQUIRE(m.through(&product<false, true>) == m.expected(false, true));
    REQUIRE(m.through(&product<true, false>) == m.expected(true, false));
    REQUIRE(m.through(&product<true, true>) == m.expected(true, true));
  }
}

// ---- ldmatrix and cp.async ----

/// Lines of 16 bytes into shared memory, line `lane` of 32 to place 31 - lane; then ldmatrix of lines 8 j + i.
__global__ void transport(const std::uint8_t* lines, std::uint32_t* registers) {
  const auto memory = shared_memory<std::uint8_t>(0, 32 * 16);
  const int lane = static_cast<int>(threadIdx.x);
  kernels::cuda::copy_async(memory, (31 - lane) * 16, lines + lane * 16, lane != 7);
  kernels::cuda::commit_copies();
  kernels::cuda::wait_for_copies<0>();
  __syncthreads();
  std::uint32_t to[4];
  kernels::cuda::load_matrices(to, memory, (31 - lane) * 16);
  for (int j = 0; j < 4; ++j) registers[lane * 4 + j] = to[j];
}

TEST_CASE("ldmatrix hands each lane the four bytes of its place in each of four matrices", "[emulation][mma]") {
  alignas(16) std::uint8_t lines[32 * 16];
  for (int j = 0; j < 32 * 16; ++j) lines[j] = static_cast<std::uint8_t>(j * 7 + j / 256);
  std::uint32_t registers[128] = {};
  start(32, 32 * 16, &transport, lines, registers);
  for (int lane = 0; lane < 32; ++lane) {
    for (int j = 0; j < 4; ++j) {
      const int line = 8 * j + lane / 4;
      for (int byte = 0; byte < 4; ++byte) {
        INFO("lane " << lane << ", matrix " << j << ", byte " << byte);
        const int expected = line == 7 ? 0 : lines[line * 16 + lane % 4 * 4 + byte];  // line 7 was copied as zeros
        REQUIRE(static_cast<int>(registers[lane * 4 + j] >> (8 * byte) & 0xffU) == expected);
      }
    }
  }
}

/// Reads what a copy brings; `wait` and `barrier` say what comes before.
__global__ void read_copy(const std::uint8_t* lines, int wait, int barrier, std::uint8_t* out) {
  const auto memory = shared_memory<std::uint8_t>(0, 64 * 16);
  const int thread = static_cast<int>(threadIdx.x);
  kernels::cuda::copy_async(memory, thread * 16, lines + thread * 16, true);
  kernels::cuda::commit_copies();
  if (wait != 0) kernels::cuda::wait_for_copies<0>();
  if (barrier != 0) __syncthreads();
  out[thread] = memory.load((thread + 32) % 64 * 16);
}

TEST_CASE("copies arrive when the thread has waited, for others after a barrier", "[emulation][mma]") {
  alignas(16) std::uint8_t lines[64 * 16];
  for (int j = 0; j < 64 * 16; ++j) lines[j] = static_cast<std::uint8_t>(j / 16 + 1);
  std::uint8_t out[64] = {};
  start(64, 64 * 16, &read_copy, lines, 1, 1, out);
  for (int j = 0; j < 64; ++j) CHECK(out[j] == (j + 32) % 64 + 1);
  in_every_order(
      [&] { CHECK_THROWS_WITH(start(64, 64 * 16, &read_copy, lines, 1, 0, out), Contains("shared memory")); });
  start(64, 64 * 16, &read_copy, lines, 0, 1, out);
  for (int j = 0; j < 64; ++j) CHECK(out[j] == 0xC5);
}

/// ldmatrix from a place that is no multiple of 16 bytes.
__global__ void crooked_load(std::uint32_t* out) {
  const auto memory = shared_memory<std::uint8_t>(0, 1024);
  std::uint32_t to[4];
  kernels::cuda::load_matrices(to, memory, static_cast<int>(threadIdx.x) * 16 + 8);
  out[threadIdx.x] = to[0];
}

/// cp.async from a place that is no multiple of 16 bytes.
__global__ void crooked_copy(const std::uint8_t* from) {
  kernels::cuda::copy_async(shared_memory<std::uint8_t>(0, 1024), 0, from + 1, true);
}

TEST_CASE("places that are no multiples of 16 bytes are faults", "[emulation][mma]") {
  std::uint32_t out[32] = {};
  alignas(16) std::uint8_t bytes[64] = {};
  CHECK_THROWS_WITH(start(32, 1024, &crooked_load, out), Contains("ldmatrix"));
  CHECK_THROWS_WITH(start(32, 1024, &crooked_copy, bytes), Contains("multiples of 16"));
}

}  // namespace
}  // namespace cimq::emulation
