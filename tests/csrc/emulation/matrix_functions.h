// Tensor cores and asynchronous copies in software: the functions of kernels/cuda/mma.h, from the fragment layouts of
// the PTX manual ("Matrix Fragments for mma.m16n8k32", "ldmatrix", "cp.async").
#pragma once

#include <any>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "common/error.h"
#include "emulation/block.h"
#include "emulation/shared_array.h"
#include "emulation/warp_functions.h"

namespace cimq::emulation {

/// What a lane brings to a product.
struct MatrixOperands {
  std::array<std::uint32_t, 4> a;
  std::array<std::uint32_t, 2> b;
};

template <bool kSigned>
std::int32_t byte_of(std::uint32_t word, unsigned index) {
  const auto byte = static_cast<std::uint8_t>(word >> (8 * index));
  return kSigned ? std::int32_t{static_cast<std::int8_t>(byte)} : std::int32_t{byte};
}

/// Four of the 32 products of a row of A and a column of B: register `half` of A and B holds columns 16 half + 4
/// quarter on of its row.
template <bool kSignedA, bool kSignedB>
std::int32_t four_products(std::uint32_t a, std::uint32_t b) {
  std::int32_t sum = 0;
  for (unsigned j = 0; j < 4; ++j) sum += byte_of<kSignedA>(a, j) * byte_of<kSignedB>(b, j);
  return sum;
}

template <bool kSignedA, bool kSignedB>
void multiply_add(std::int32_t (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  const std::int32_t (&c)[4]) {
  constexpr unsigned kAllLanes = 0xffffffffU;
  MatrixOperands mine = {};
  for (std::size_t j = 0; j < 4; ++j) mine.a[j] = a[j];
  for (std::size_t j = 0; j < 2; ++j) mine.b[j] = b[j];
  const int lane = lane_of_current();
  const Block::LaneValues& brought = running_block().meet(kAllLanes, &mine, sizeof(mine), "mma.m16n8k32");
  for (int element = 0; element < 4; ++element) {
    const int row = lane / 4;  // of the upper or lower half of A, which a register's number tells apart
    const std::size_t lower = element / 2;
    const int column = 2 * (lane % 4) + element % 2;
    std::int32_t sum = 0;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const auto of_a = value_of<MatrixOperands>(brought, 4 * row + quarter);
      const auto of_b = value_of<MatrixOperands>(brought, 4 * column + quarter);
      for (std::size_t half = 0; half < 2; ++half) {
        sum += four_products<kSignedA, kSignedB>(of_a.a[2 * half + lower], of_b.b[half]);
      }
    }
    d[element] = static_cast<std::int32_t>(static_cast<std::uint32_t>(c[element]) + static_cast<std::uint32_t>(sum));
  }
}

inline void load_matrices(std::uint32_t (&to)[4], SharedArray<std::uint8_t> from, int index) {
  constexpr unsigned kAllLanes = 0xffffffffU;
  Block& block = running_block();
  const int lane = lane_of_current();
  const std::uint32_t mine = from.address(index);
  if (index > from.size() - 16 || mine % 16 != 0) {
    block.fault(message("ldmatrix of thread ", block.current().id, ": a row needs 16 bytes from a multiple of 16 on, ",
                        "got ", mine, ", value ", index, " of ", from.size()));
  }
  const Block::LaneValues& brought = block.meet(kAllLanes, &mine, sizeof(mine), "ldmatrix");
  std::array<std::uint32_t, 4> rows = {};
  for (int j = 0; j < 4; ++j) {
    rows[static_cast<std::size_t>(j)] = value_of<std::uint32_t>(brought, 8 * j + lane / 4);
  }
  for (std::size_t j = 0; j < 4; ++j) {
    block.read_shared(rows[j] + 4 * static_cast<std::size_t>(lane % 4), sizeof(std::uint32_t), &to[j]);
  }
}

/// Only compilers for the device are told anything by it.
inline int fresh(int value) { return value; }

/// Copies of a thread that have begun. What lies in the target until the thread has waited is nobody's business, so
/// that it is overwritten at once, and the bytes come in while the thread waits.
struct CopiesUnderWay {
  struct Copy {
    std::uint32_t to;
    const void* from;  // null: zeros
  };
  std::vector<Copy> begun;
  std::deque<std::vector<Copy>> groups;

  static CopiesUnderWay& of_current() {
    std::any& own = running_block().current().own;
    if (!own.has_value()) own = CopiesUnderWay{};
    return std::any_cast<CopiesUnderWay&>(own);
  }
};

constexpr std::size_t kCopyBytes = 16;

inline void copy_async(SharedArray<std::uint8_t> to, int index, const void* from, bool valid) {
  Block& block = running_block();
  const std::uint32_t address = to.address(index);
  if (index > to.size() - static_cast<int>(kCopyBytes) || address % kCopyBytes != 0 ||
      (valid && reinterpret_cast<std::uintptr_t>(from) % kCopyBytes != 0)) {
    block.fault(message("cp.async of thread ", block.current().id,
                        ": both places must be multiples of 16 bytes, inside of the array; got value ", index, " of ",
                        to.size(), " and address ", reinterpret_cast<std::uintptr_t>(from)));
  }
  std::array<std::uint8_t, kCopyBytes> nothing;
  nothing.fill(0xC5);
  block.write_shared(address, kCopyBytes, nothing.data());
  CopiesUnderWay::of_current().begun.push_back({address, valid ? from : nullptr});
}

inline void commit_copies() {
  CopiesUnderWay& copies = CopiesUnderWay::of_current();
  copies.groups.push_back(std::move(copies.begun));
  copies.begun.clear();
}

template <int kGroups>
void wait_for_copies() {
  CopiesUnderWay& copies = CopiesUnderWay::of_current();
  while (copies.groups.size() > static_cast<std::size_t>(kGroups)) {
    for (const CopiesUnderWay::Copy& copy : copies.groups.front()) {
      std::array<std::uint8_t, kCopyBytes> bytes = {};
      if (copy.from != nullptr) std::memcpy(bytes.data(), copy.from, kCopyBytes);
      running_block().write_shared(copy.to, kCopyBytes, bytes.data());
    }
    copies.groups.pop_front();
  }
}

}  // namespace cimq::emulation
