// Tile kernel of single-bit digits by tables of partial sums ("method of four Russians": Arlazarov, Dinic, Kronrod,
// Faradzev 1970). Four rows of single-bit digits select one of 16 sums of their four cells. The 16 vectors of sums are
// made once per tile; then each digit row needs one addition per four rows and vector of outputs, with one byte per
// output, where a dot-product instruction needs four. The tables of a tile fill the first-level cache and not more.
//
// Written with the compiler's vector types: one source for every instruction set. A file per instruction set defines
// CodeOps for its vector widths and kRowsAtOnce, includes this header inside its target region, and offers run_strips.
//
// Narrow is the type of a sum of four cells: uint8 for int8 cells, uint16 for int16 cells. Sums are kept non-negative
// (a bias that is subtracted at the end), so that several fit into a Narrow before they are added to a Wide.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/tile/tile_kernel.h"

namespace cimq::kernels::cpu {
namespace {

template <typename T, int kBytes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kBytes)));  // NOLINT(modernize-use-using): the attribute needs it
};
template <typename T, int kBytes>
using Vector = typename VectorOf<T, kBytes>::Type;

constexpr int kEntries = 16;

/// What depends on the element type: outputs of a strip, the 32-bit vectors that hold them.
template <typename Narrow, int kBytes>
struct Strip {
  using Wide = std::conditional_t<sizeof(Narrow) == 1, std::uint16_t, std::uint32_t>;
  using SignedWide = std::make_signed_t<Wide>;
  using NarrowVector = Vector<Narrow, kBytes>;
  using WideVector = Vector<Wide, kBytes>;
  using Words = Vector<std::int32_t, kBytes>;
  static constexpr int kOutputs = kBytes / sizeof(Narrow);
  static constexpr int kWords = 4 / sizeof(Narrow);  ///< int32 vectors of a strip
  static constexpr int kGroups = kTableBytes / (kEntries * kBytes);
  static constexpr int kBits = 8 * sizeof(Narrow);
};

template <typename V>
inline V load_vector(const void* p) {
  V value;
  __builtin_memcpy(&value, p, sizeof(V));
  return value;
}

template <typename V>
inline void store_vector(void* p, V value) {
  __builtin_memcpy(p, &value, sizeof(V));
}

/// The cells of four rows, one vector per row. Element 0 of every 32-bit lane belongs to the first kBytes / 4 outputs
/// of the strip, element 1 to the next, and so on: no lane is ever crossed.
template <int kBytes>
inline void load_rows(const TileArgs& args, std::int64_t group, int first, Vector<std::uint8_t, kBytes> (&rows)[4]) {
  using U = Vector<std::uint32_t, kBytes>;
  const auto* cells = static_cast<const std::byte*>(args.cells) + (group * args.width + first) * 4;
  U a = load_vector<U>(cells), b = load_vector<U>(cells + kBytes);
  U c = load_vector<U>(cells + 2 * kBytes), d = load_vector<U>(cells + 3 * kBytes);
  // Bytes of rows 0 and 2, then of rows 1 and 3.
  const U ab_even = (a & 0x00FF00FFU) | ((b & 0x00FF00FFU) << 8);
  const U ab_odd = ((a >> 8) & 0x00FF00FFU) | (b & 0xFF00FF00U);
  const U cd_even = (c & 0x00FF00FFU) | ((d & 0x00FF00FFU) << 8);
  const U cd_odd = ((c >> 8) & 0x00FF00FFU) | (d & 0xFF00FF00U);
  using Out = Vector<std::uint8_t, kBytes>;
  rows[0] = reinterpret_cast<Out>((ab_even & 0xFFFFU) | (cd_even << 16));
  rows[1] = reinterpret_cast<Out>((ab_odd & 0xFFFFU) | (cd_odd << 16));
  rows[2] = reinterpret_cast<Out>((ab_even >> 16) | (cd_even & 0xFFFF0000U));
  rows[3] = reinterpret_cast<Out>((ab_odd >> 16) | (cd_odd & 0xFFFF0000U));
}

/// The same for int16 cells, whose steps hold two rows.
template <int kBytes>
inline void load_rows(const TileArgs& args, std::int64_t group, int first, Vector<std::uint16_t, kBytes> (&rows)[4]) {
  using U = Vector<std::uint32_t, kBytes>;
  using Out = Vector<std::uint16_t, kBytes>;
  for (int half = 0; half < 2; ++half) {
    const std::int64_t step = 2 * group + half;
    U a{}, b{};
    if (step < args.steps) {
      const auto* cells = static_cast<const std::byte*>(args.cells) + (step * args.width + first) * 4;
      a = load_vector<U>(cells);
      b = load_vector<U>(cells + kBytes);
    }
    rows[2 * half] = reinterpret_cast<Out>((a & 0xFFFFU) | (b << 16));
    rows[2 * half + 1] = reinterpret_cast<Out>((a >> 16) | (b & 0xFFFF0000U));
  }
}

/// Sums of every subset of the four cells of a group, plus `bias`.
template <typename Narrow, int kBytes>
inline void make_table(const TileArgs& args, std::int64_t group, int first, Narrow bias, std::byte* table) {
  using V = Vector<Narrow, kBytes>;
  V rows[4];
  load_rows<kBytes>(args, group, first, rows);
  V sums[kEntries];
  sums[0] = V{} + bias;
#pragma GCC unroll 16
  for (int j = 1; j < kEntries; ++j) {
    const int top = j >= 8 ? 3 : (j >= 4 ? 2 : (j >= 2 ? 1 : 0));
    sums[j] = sums[j - (1 << top)] + rows[top];
  }
#pragma GCC unroll 16
  for (int j = 0; j < kEntries; ++j) store_vector(table + j * kBytes, sums[j]);
}

/// Adds kRun groups of kRows digit rows in Narrow, then to the totals: `total` gets whole Wide elements (mod their
/// size), `odd` the upper halves.
template <typename Narrow, int kBytes, int kRows, int kRun>
inline void add_run(const std::byte* table, const std::uint8_t* digits,
                    typename Strip<Narrow, kBytes>::WideVector (&total)[kRows],
                    typename Strip<Narrow, kBytes>::WideVector (&odd)[kRows]) {
  using S = Strip<Narrow, kBytes>;
  typename S::NarrowVector sum[kRows];
#pragma GCC unroll 16
  for (int j = 0; j < kRun; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const std::size_t entry = std::size_t{digits[j * kDigitBlock + r]} * (kBytes / 8);
      const auto value = load_vector<typename S::NarrowVector>(table + j * (kEntries * kBytes) + entry);
      sum[r] = j == 0 ? value : sum[r] + value;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const auto wide = reinterpret_cast<typename S::WideVector>(sum[r]);
    total[r] += wide;
    odd[r] += wide >> S::kBits;
  }
}

template <typename Narrow, int kBytes, int kRows, int kRun>
inline void add_groups(const std::byte* table, const std::uint8_t* digits, int groups,
                       typename Strip<Narrow, kBytes>::WideVector (&total)[kRows],
                       typename Strip<Narrow, kBytes>::WideVector (&odd)[kRows]) {
  int g = 0;
  for (; g + kRun <= groups; g += kRun) {
    add_run<Narrow, kBytes, kRows, kRun>(table + g * (kEntries * kBytes), digits + g * kDigitBlock, total, odd);
  }
  for (; g < groups; ++g) {
    add_run<Narrow, kBytes, kRows, 1>(table + g * (kEntries * kBytes), digits + g * kDigitBlock, total, odd);
  }
}

/// Currents of digit rows on their way to memory.
template <typename Narrow, int kBytes>
struct Finish {
  using S = Strip<Narrow, kBytes>;
  using Words = typename S::Words;
  using Unsigned = Vector<std::uint32_t, kBytes>;
  using Floats = Vector<float, kBytes>;

  /// int32 vectors from the Wide elements. int16 currents come out times 2^16, each in the upper half of its lane.
  [[gnu::always_inline]] static inline void spread(typename S::WideVector even, typename S::WideVector odd,
                                                   Words (&current)[S::kWords]) {
    if constexpr (S::kWords == 4) {
      const auto low = reinterpret_cast<Unsigned>(even);
      const auto high = reinterpret_cast<Unsigned>(odd);
      current[0] = reinterpret_cast<Words>(low << 16);
      current[1] = reinterpret_cast<Words>(high << 16);
      current[2] = reinterpret_cast<Words>(low & 0xFFFF0000U);
      current[3] = reinterpret_cast<Words>(high & 0xFFFF0000U);
    } else {
      current[0] = reinterpret_cast<Words>(even);
      current[1] = reinterpret_cast<Words>(odd);
    }
  }

  [[gnu::always_inline]] static inline void add_to_sums(const TileArgs& args, int first, std::int32_t row,
                                                        const Unsigned (&values)[S::kWords]) {
    std::int32_t* sums = args.sums + std::ptrdiff_t{row} * args.width + first;
#pragma GCC unroll 4
    for (int j = 0; j < S::kWords; ++j) {
      std::int32_t* out = sums + j * (kBytes / 4);
      store_vector(out, load_vector<Unsigned>(out) + values[j]);
    }
  }

  /// Codes of the digits of one input follow each other and are summed in registers, as float32: exactly, since 16-bit
  /// codes times 8 digits stay below 2^24.
  template <bool kClips, bool kColumns, int kRows>
  [[gnu::always_inline]] static inline void convert(const TileArgs& args, int first, const TileRow* rows,
                                                    const typename S::WideVector (&even)[kRows],
                                                    const typename S::WideVector (&odd)[kRows]) {
    // The factor of spread() goes into inv_lsb, where a power of two changes no bit of the product.
    constexpr float kUnit = S::kWords == 4 ? 0x1p-16F : 1.0F;
    Floats inv_lsb[kColumns ? S::kWords : 1];
    Unsigned lo[kColumns ? S::kWords : 1];
    if constexpr (kColumns) {
#pragma GCC unroll 4
      for (int j = 0; j < S::kWords; ++j) {
        inv_lsb[j] = load_vector<Floats>(args.column_inv_lsb + first + j * (kBytes / 4)) * kUnit;
        lo[j] = load_vector<Unsigned>(args.column_lo + first + j * (kBytes / 4)) << (S::kWords == 4 ? 16U : 0U);
      }
    } else {
      inv_lsb[0] = args.inv_lsb * kUnit - Floats{};
    }
    Floats codes[S::kWords];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const bool negative = (rows[r].negative != 0) != args.negative;
      const auto weight = static_cast<float>(negative ? -(1 << rows[r].shift) : 1 << rows[r].shift);
      Words current[S::kWords];
      spread(even[r], odd[r], current);
      if (r == 0 || rows[r].output_row != rows[r - 1].output_row) {
        if (r > 0) write_codes(args, first, rows[r - 1].output_row, codes);
#pragma GCC unroll 4
        for (int j = 0; j < S::kWords; ++j) codes[j] = Floats{};
      }
#pragma GCC unroll 4
      for (int j = 0; j < S::kWords; ++j) {
        if constexpr (kColumns) current[j] = reinterpret_cast<Words>(reinterpret_cast<Unsigned>(current[j]) - lo[j]);
        const Floats& step = inv_lsb[kColumns ? j : 0];
        const auto code = CodeOps<kBytes>::template codes<kClips, Floats>(current[j], step, args);
        codes[j] = CodeOps<kBytes>::add(codes[j], code, weight);
      }
    }
    write_codes(args, first, rows[kRows - 1].output_row, codes);
  }

  [[gnu::always_inline]] static inline void write_codes(const TileArgs& args, int first, std::int32_t row,
                                                        const Floats (&codes)[S::kWords]) {
    Unsigned values[S::kWords];
#pragma GCC unroll 4
    for (int j = 0; j < S::kWords; ++j) values[j] = CodeOps<kBytes>::template to_words<Unsigned>(codes[j]);
    add_to_sums(args, first, row, values);
  }

  /// Without a converter. Sums may wrap: the caller's arithmetic is modulo 2^32.
  [[gnu::always_inline]] static inline void add_current(const TileArgs& args, int first, const TileRow& row,
                                                        typename S::WideVector even, typename S::WideVector odd) {
    const bool negative = (row.negative != 0) != args.negative;
    Words current[S::kWords];
    Unsigned values[S::kWords];
    spread(even, odd, current);
#pragma GCC unroll 4
    for (int j = 0; j < S::kWords; ++j) {
      if constexpr (S::kWords == 4) current[j] >>= 16;
      values[j] = reinterpret_cast<Unsigned>(current[j]) << static_cast<std::uint32_t>(row.shift);
      if (negative) values[j] = -values[j];
    }
    add_to_sums(args, first, row.output_row, values);
  }
};

template <typename Narrow, int kBytes>
struct StripRunner {
  using S = Strip<Narrow, kBytes>;
  using W = typename S::WideVector;

  const TileArgs& args;
  int first;
  std::int64_t groups;
  std::byte* table;

  /// kRows digit rows from `r` on against the groups [begin, end), whose tables are ready.
  template <int kRows, int kRun>
  void run_rows(int r, std::int64_t begin, std::int64_t end) {
    W total[kRows];
    W odd[kRows];
    W even[kRows];
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) total[j] = odd[j] = W{};
    const auto* digits = static_cast<const std::uint8_t*>(args.digits) + r / kDigitBlock * (kDigitBlock * groups) +
                         begin * kDigitBlock + r % kDigitBlock;
    add_groups<Narrow, kBytes, kRows, kRun>(table, digits, static_cast<int>(end - begin), total, odd);
    auto* partial = static_cast<std::byte*>(args.scratch) + std::ptrdiff_t{r} * (2 * kBytes);
    const auto bias = static_cast<typename S::Wide>(-args.lo + 4 * args.min_cell * static_cast<std::int32_t>(groups));
#pragma GCC unroll 8
    for (int j = 0; j < kRows; ++j) {
      even[j] = total[j] - (odd[j] << S::kBits);
      if (begin > 0) {
        even[j] += load_vector<W>(partial + j * (2 * kBytes));
        odd[j] += load_vector<W>(partial + j * (2 * kBytes) + kBytes);
      } else {
        even[j] += bias;
        odd[j] += bias;
      }
    }
    if (end < groups) {
#pragma GCC unroll 8
      for (int j = 0; j < kRows; ++j) {
        store_vector(partial + j * (2 * kBytes), even[j]);
        store_vector(partial + j * (2 * kBytes) + kBytes, odd[j]);
      }
    } else {
      if (!args.convert) {
#pragma GCC unroll 8
        for (int j = 0; j < kRows; ++j) {
          Finish<Narrow, kBytes>::add_current(args, first, args.rows[r + j], even[j], odd[j]);
        }
      } else if (args.column_lo != nullptr) {
        Finish<Narrow, kBytes>::template convert<true, true, kRows>(args, first, args.rows + r, even, odd);
      } else if (args.clips) {
        Finish<Narrow, kBytes>::template convert<true, false, kRows>(args, first, args.rows + r, even, odd);
      } else {
        Finish<Narrow, kBytes>::template convert<false, false, kRows>(args, first, args.rows + r, even, odd);
      }
    }
  }

  template <int kRun>
  void run_all() {
    const auto bias = static_cast<Narrow>(-4 * args.min_cell);
    for (std::int64_t begin = 0; begin < groups; begin += S::kGroups) {
      const std::int64_t end = begin + S::kGroups < groups ? begin + S::kGroups : groups;
      for (std::int64_t g = begin; g < end; ++g) {
        make_table<Narrow, kBytes>(args, g, first, bias, table + (g - begin) * (kEntries * kBytes));
      }
      int r = 0;
      for (; r + kRowsAtOnce <= args.row_count; r += kRowsAtOnce) run_rows<kRowsAtOnce, kRun>(r, begin, end);
      for (; r < args.row_count; ++r) run_rows<1, kRun>(r, begin, end);
    }
  }
};

template <typename Narrow, int kBytes>
void run_strip(const TileArgs& args, int first) {
  using S = Strip<Narrow, kBytes>;
  alignas(64) std::byte table[kTableBytes];
  constexpr std::int64_t kSteps = sizeof(Narrow);  // steps that hold four rows
  const std::int64_t groups = (args.steps + kSteps - 1) / kSteps;
  StripRunner<Narrow, kBytes> runner{args, first, groups, table};
  const std::int64_t largest = std::int64_t{4} * (args.max_cell - args.min_cell);
  const std::int64_t run = ((std::int64_t{1} << S::kBits) - 1) / (largest > 0 ? largest : 1);
  if (run >= 8) {
    runner.template run_all<8>();
  } else if (run >= 4) {
    runner.template run_all<4>();
  } else if (run >= 2) {
    runner.template run_all<2>();
  } else {
    runner.template run_all<1>();
  }
}

/// Strips as wide as the instruction set has vectors, then narrower ones.
template <typename Narrow, int kBytes>
void run_strips_from(const TileArgs& args, int first) {
  constexpr int kOutputs = Strip<Narrow, kBytes>::kOutputs;
  for (; first + kOutputs <= args.width; first += kOutputs) run_strip<Narrow, kBytes>(args, first);
  if constexpr (kOutputs > kLaneWidth) {
    if (first < args.width) run_strips_from<Narrow, kBytes / 2>(args, first);
  }
}

template <typename Narrow, int kBytes>
void run_strips(const TileArgs& args) {
  run_strips_from<Narrow, kBytes>(args, 0);
}

}  // namespace
}  // namespace cimq::kernels::cpu
