// The emulation itself: what it must find, and that it lets right kernels pass. A kernel here is a plain function.
#include <bit>
#include <catch2/catch.hpp>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/shared_memory.h"

namespace cimq::emulation {
namespace {

using Catch::Matchers::Contains;
using kernels::cuda::Grid;
using kernels::cuda::LaunchError;
using kernels::cuda::shared_memory;
using kernels::cuda::Work;

constexpr unsigned kAll = 0xffffffffU;

template <typename... Parameters>
void start(const Grid& grid, void (*kernel)(Parameters...), std::type_identity_t<Parameters>... arguments) {
  const Work work = {"an_op", "a_kernel", {{{"batch", 3}, {"inputs", 5}}}};
  kernels::cuda::launch(work, grid, {}, kernel, arguments...);
}

// ---- right kernels ----

__global__ void write_indices(std::uint64_t* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = (std::uint64_t{block} << 32) | thread;
}

/// Sums of `count` values of a block: tree in shared memory, then shuffles, then an atomic.
__global__ void sum_of_squares(const int* values, int count, int* total) {
  const auto sums = shared_memory<int>(0, static_cast<int>(blockDim.x));
  const int thread = static_cast<int>(threadIdx.x);
  const int at = static_cast<int>(blockIdx.x * blockDim.x) + thread;
  sums[thread] = at < count ? values[at] * values[at] : 0;
  __syncthreads();
  for (int half = static_cast<int>(blockDim.x) / 2; half >= 32; half /= 2) {
    if (thread < half) sums[thread] += sums[thread + half];
    __syncthreads();
  }
  if (thread >= 32) return;
  int sum = sums[thread];
  for (int delta = 16; delta > 0; delta /= 2) sum += __shfl_down_sync(kAll, sum, static_cast<unsigned>(delta));
  if (thread == 0) atomicAdd(total, sum);
}

/// Every lane gives what each function of a warp gave it.
__global__ void warp_functions(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = out + threadIdx.x * 16;
  mine[0] = __shfl_sync(kAll, lane * 10, 5);
  mine[1] = __shfl_sync(kAll, lane * 10, lane + 3, 8);
  mine[2] = __shfl_up_sync(kAll, lane * 10, 2);
  mine[3] = __shfl_down_sync(kAll, lane * 10, 2, 16);
  mine[4] = __shfl_xor_sync(kAll, lane * 10, 7);
  mine[5] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  mine[6] = __any_sync(kAll, lane == 31);
  mine[7] = __all_sync(kAll, lane < 31);
  mine[8] = __reduce_add_sync(kAll, lane);
  mine[9] = __reduce_max_sync(kAll, -lane);
  // The halves of a warp on their own.
  const unsigned half = lane < 16 ? 0x0000ffffU : 0xffff0000U;
  mine[10] = __reduce_add_sync(half, lane);
  mine[11] = lane < 16 ? __shfl_xor_sync(0x0000ffffU, lane, 1) : -1;
  const double wide = __shfl_sync(kAll, lane + 0.25, 9);
  mine[12] = static_cast<int>(wide * 4);
  mine[13] = __syncthreads_count(lane == 4);
  mine[14] = __syncthreads_or(threadIdx.x == 33);
  mine[15] = __syncthreads_and(threadIdx.x != 33);
}

/// A value goes through a warp in shared memory; only __syncwarp orders the accesses.
__global__ void pass_around(int* out, bool ordered) {
  const auto values = shared_memory<int>(0, static_cast<int>(blockDim.x));
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = thread;
  if (ordered) __syncwarp();
  const int neighbour = values[thread ^ 1];
  if (ordered) __syncwarp();
  values[thread] = neighbour;
  out[thread] = values[thread];
}

__global__ void histogram(const int* values, int* counts) {
  const auto bins = shared_memory<int>(16, 4);
  if (threadIdx.x < 4) bins[static_cast<int>(threadIdx.x)] = 0;
  __syncthreads();
  bins.atomic_add(values[threadIdx.x] % 4, 1);
  __syncthreads();
  if (threadIdx.x < 4) counts[threadIdx.x] = bins[static_cast<int>(threadIdx.x)];
}

// ---- wrong kernels ----

__global__ void race_between_warps() {
  const auto values = shared_memory<std::uint8_t>(0, 64);
  values[static_cast<int>(threadIdx.x)] = 1;
  if (threadIdx.x == 40) values[7] = 2;
}

__global__ void write_after_read() {
  const auto values = shared_memory<int>(0, 64);
  const int thread = static_cast<int>(threadIdx.x);
  values[thread] = 1;
  __syncthreads();
  if (thread == 3 || thread == 4) static_cast<void>(values.load(50));
  if (thread == 50) values[50] = 2;
}

__global__ void plain_beside_atomic() {
  const auto values = shared_memory<int>(0, 1);
  if (threadIdx.x == 0) values[0] = 0;
  __syncthreads();
  values.atomic_add(0, 1);
  if (threadIdx.x == 63) static_cast<void>(values.load(0));
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 17) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void missing_lane() {
  if (threadIdx.x != 9) static_cast<void>(__ballot_sync(kAll, 1));
}

__global__ void outside_of_mask() { static_cast<void>(__shfl_sync(1U << threadIdx.x, 1, 0)); }

__global__ void different_functions() {
  if (threadIdx.x == 0) {
    static_cast<void>(__shfl_sync(kAll, 1, 0));
  } else {
    static_cast<void>(__ballot_sync(kAll, 1));
  }
}

__global__ void read_at(int index) {
  const auto values = shared_memory<int>(0, 32);
  values[static_cast<int>(threadIdx.x)] = 0;
  __syncthreads();
  static_cast<void>(values.load(index));
}

__global__ void misaligned() {
  const auto values = shared_memory<int>(0, 32);
  values[static_cast<int>(threadIdx.x)] = 0;
  __syncthreads();
  static_cast<void>(values.load_as<int4>(2));
}

__global__ void unwritten() { static_cast<void>(shared_memory<int>(0, 32).load(static_cast<int>(threadIdx.x))); }

__global__ void too_much() { static_cast<void>(shared_memory<int>(64, 17)); }

TEST_CASE("emulation: indices of threads and blocks in three dimensions", "[emulation]") {
  const Grid grid = {{3, 2, 2}, {8, 4, 2}};
  in_every_order([&] {
    std::vector<std::uint64_t> out(12 * 64, ~0ULL);
    start(grid, write_indices, out.data());
    for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == ((std::uint64_t{i / 64} << 32) | (i % 64)));
  });
}

TEST_CASE("emulation: a reduction through shared memory, shuffles and atomics", "[emulation]") {
  std::vector<int> values(1000);
  std::iota(values.begin(), values.end(), -300);
  int wanted = 0;
  for (const int value : values) wanted += value * value;
  in_every_order([&] {
    int total = 0;
    start({4, 256, 1024}, sum_of_squares, values.data(), 1000, &total);
    CHECK(total == wanted);
  });
}

TEST_CASE("emulation: functions of a warp", "[emulation]") {
  in_every_order([] {
    std::vector<int> out(64 * 16);
    start({1, 64}, warp_functions, out.data());
    for (int thread = 0; thread < 64; ++thread) {
      INFO("thread " << thread);
      const int lane = thread % 32;
      const int* mine = out.data() + thread * 16;
      CHECK(mine[0] == 50);
      CHECK(mine[1] == (lane / 8 * 8 + (lane + 3) % 8) * 10);
      CHECK(mine[2] == (lane < 2 ? lane : lane - 2) * 10);
      CHECK(mine[3] == (lane % 16 < 14 ? lane + 2 : lane) * 10);
      CHECK(mine[4] == (lane ^ 7) * 10);
      CHECK(static_cast<unsigned>(mine[5]) == 0b01001001001001001001001001001001U);
      CHECK(mine[6] == 1);
      CHECK(mine[7] == 0);
      CHECK(mine[8] == 496);
      CHECK(mine[9] == 0);
      CHECK(mine[10] == (lane < 16 ? 120 : 376));
      CHECK(mine[11] == (lane < 16 ? lane ^ 1 : -1));
      CHECK(mine[12] == 37);
      CHECK(mine[13] == 2);
      CHECK(mine[14] == 1);
      CHECK(mine[15] == 0);
    }
  });
}

TEST_CASE("emulation: __syncwarp orders the accesses of a warp, nothing else does", "[emulation]") {
  in_every_order([] {
    std::vector<int> out(64);
    start({1, 64, 256}, pass_around, out.data(), true);
    for (int thread = 0; thread < 64; ++thread) CHECK(out[static_cast<std::size_t>(thread)] == (thread ^ 1));
    CHECK_THROWS_WITH(start({1, 64, 256}, pass_around, out.data(), false),
                      Contains("kernel a_kernel, block (0, 0, 0)"));
  });
}

TEST_CASE("emulation: atomics in shared memory do not race with each other", "[emulation]") {
  std::vector<int> values(96);
  std::iota(values.begin(), values.end(), 0);
  std::vector<int> counts(4);
  start({1, 96, 32}, histogram, values.data(), counts.data());
  CHECK(counts == std::vector<int>{24, 24, 24, 24});
  CHECK_THROWS_WITH(start({1, 64, 4}, plain_beside_atomic),
                    Contains("thread 0 writes what another has just read (thread 63)"));
}

TEST_CASE("emulation: races in shared memory are found in either order", "[emulation]") {
  CHECK_THROWS_WITH(start({2, 64, 64}, race_between_warps),
                    Contains("kernel a_kernel, block (0, 0, 0): thread 40 writes what another has just written "
                             "(thread 7), 1 bytes at 7 of shared memory with 64 bytes"));
  CHECK_THROWS_WITH(start({1, 64, 256}, write_after_read), Contains("thread 50 writes what another has just read"));
  set_order(Order::kDescending);
  CHECK_THROWS_WITH(start({1, 64, 64}, race_between_warps), Contains("thread 7 writes what another has just written "
                                                                     "(thread 40)"));
  CHECK_THROWS_WITH(start({1, 64, 256}, write_after_read), Contains("thread 4 reads what another has just written"));
  set_order(Order::kAscending);
}

TEST_CASE("emulation: threads that do not arrive are named", "[emulation]") {
  CHECK_THROWS_WITH(start({1, 64}, divergent_barrier), Contains("threads wait for others that never come") &&
                                                           Contains("each of threads 0 to 16 is in __syncthreads") &&
                                                           Contains("each of threads 17 to 63 has returned"));
  CHECK_THROWS_WITH(start({1, 64}, two_barriers), Contains("threads 0 and 32 are at different barriers"));
  CHECK_THROWS_WITH(start({1, 32}, missing_lane),
                    Contains("is in __ballot_sync with the mask 0xffffffff") && Contains("thread 9 has returned"));
  CHECK_THROWS_WITH(start({1, 32}, outside_of_mask), Contains("thread 1 reads lane 0 in __shfl_sync"));
  CHECK_THROWS_WITH(start({1, 32}, different_functions), Contains("lanes of one mask meet in different functions"));
}

TEST_CASE("emulation: accesses outside the bounds, misaligned or of unwritten bytes", "[emulation]") {
  for (const int index : {-1, 32, 1 << 30}) {
    CHECK_THROWS_WITH(start({1, 32, 256}, read_at, index),
                      Contains("outside the bounds of an array in shared memory: 1 of 32 values, from value " +
                               std::to_string(index)));
  }
  CHECK_NOTHROW(start({1, 32, 256}, read_at, 31));
  CHECK_THROWS_WITH(start({1, 32, 128}, misaligned), Contains("accesses 16 bytes at 8"));
  CHECK_THROWS_WITH(start({1, 32, 128}, unwritten), Contains("reads what nobody has written in this block"));
  CHECK_THROWS_WITH(start({1, 32, 128}, too_much), Contains("are outside the shared memory of 128 bytes"));
}

TEST_CASE("emulation: a kernel that failed leaves nothing behind for the next", "[emulation]") {
  CHECK_THROWS_AS(start({1, 64, 64}, race_between_warps), Fault);
  CHECK_THROWS_AS(start({1, 64}, divergent_barrier), Fault);
  std::vector<int> values(96, 2);
  std::vector<int> counts(4);
  start({1, 96, 32}, histogram, values.data(), counts.data());
  CHECK(counts == std::vector<int>{0, 0, 96, 0});
  CHECK_THROWS_WITH(__syncthreads(), Contains("outside a kernel"));
}

TEST_CASE("launch: grids that no device can run are refused with op, shape and architecture", "[emulation]") {
  const auto refused = [](const Grid& grid) -> std::string {
    try {
      start(grid, two_barriers);
    } catch (const LaunchError& error) {
      CHECK(error.op() == "an_op");
      CHECK(error.shape() == "batch 3, inputs 5");
      CHECK(error.architecture() == "the emulation");
      return error.what();
    }
    return "";
  };
  CHECK(refused({0, 64}) ==
        "an_op: the CUDA kernel a_kernel for batch 3, inputs 5 did not start on the emulation: axis 0 of the grid must "
        "have 1 to 2147483647 blocks, got 0");
  CHECK_THAT(refused({{1, 65536}, 64}), Contains("axis 1 of the grid must have 1 to 65535 blocks, got 65536"));
  CHECK_THAT(refused({1, 40}), Contains("a block must be whole warps of 32 and have at most 1024 threads, got 40"));
  CHECK_THAT(refused({1, {512, 4}}), Contains("at most 1024 threads, got 2048"));
  CHECK_THAT(refused({1, {1, 1, 128}}), Contains("axis 2 of a block must have 1 to 64 threads, got 128"));
  CHECK_THAT(refused({1, 64, kernels::cuda::kMaxSharedBytes + 1}), Contains("at most 101376 bytes of shared memory"));
}

}  // namespace
}  // namespace cimq::emulation
