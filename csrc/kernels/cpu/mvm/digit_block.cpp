#include "kernels/cpu/mvm/digit_block.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "common/bits.h"
#include "common/rounding.h"
#include "kernels/cpu/isa/processor.h"
#include "kernels/cpu/isa/target_region.h"

namespace cimq::kernels::cpu {
namespace {

constexpr std::int64_t kBlockBytes = 192 * 1024;
constexpr std::int64_t kTableBlockBytes = 2 * 1024 * 1024;  // a tile's part is what is read again and again
constexpr std::int64_t kMostBytes = 16 * 1024 * 1024;       // whatever the number of inputs
constexpr std::int64_t kMaxBlockRows = 64;
constexpr std::int64_t kTableDigitRows = 1024;  // that share the work of making a table, or of splitting int16 cells
constexpr std::int64_t kMaxMatrixRows = 256;    // whole activations: with their sums in the second-level cache
constexpr std::int64_t kMinBlockRows = 8;

/// out[k] = (bits[k] >> low) & mask, eight bytes at a time: a shift of the whole word moves bits of the next byte in
/// only above what `mask` keeps. length is a multiple of 4.
void extract(const std::uint8_t* bits, std::int64_t length, int low, std::uint32_t mask, std::uint8_t* out) {
  const std::uint64_t masks = mask * 0x0101010101010101U;
  std::int64_t k = 0;
  for (; k + 8 <= length; k += 8) {
    std::uint64_t word;
    std::memcpy(&word, bits + k, sizeof(word));
    word = (word >> low) & masks;
    std::memcpy(out + k, &word, sizeof(word));
  }
  for (; k < length; ++k) out[k] = static_cast<std::uint8_t>((unsigned{bits[k]} >> low) & mask);
}

void extract(const std::uint8_t* bits, std::int64_t length, int low, std::uint32_t mask, std::int16_t* out) {
  for (std::int64_t k = 0; k < length; ++k) {
    out[k] = static_cast<std::int16_t>(static_cast<std::uint16_t>(bits[k] >> low) & static_cast<std::uint16_t>(mask));
  }
}

/// Bit `low` of 32 * steps bytes, 32 to a word. The product moves bit 0 of byte i to bit 56 + i, without carries.
void extract_bits(const std::uint8_t* bits, std::int64_t steps, int low, std::uint8_t* out) {
  for (std::int64_t j = 0; j < 4 * steps; ++j) {
    std::uint64_t word = 0;
    std::memcpy(&word, bits + 8 * j, sizeof(word));
    out[j] = static_cast<std::uint8_t>((((word >> low) & 0x0101010101010101U) * 0x0102040810204080U) >> 56);
  }
}

/// Bit j of byte i becomes bit i of byte j (three exchanges of halves; Warren, Hacker's Delight, section 7-3).
inline std::uint64_t transposed_bits(std::uint64_t word) {
  std::uint64_t moved = (word ^ (word >> 7)) & 0x00AA00AA00AA00AAU;
  word ^= moved ^ (moved << 7);
  moved = (word ^ (word >> 14)) & 0x0000CCCC0000CCCCU;
  word ^= moved ^ (moved << 14);
  moved = (word ^ (word >> 28)) & 0x00000000F0F0F0F0U;
  return word ^ moved ^ (moved << 28);
}

/// The eight digits of every four inputs: byte i of digits[g] is 8 times (bit i of the four bytes, first byte lowest).
[[gnu::always_inline]] inline void group_some(const std::uint8_t* bits, std::int64_t groups, std::uint64_t* digits) {
  constexpr std::uint64_t kNibbles = 0x7878787878787878U;
  for (std::int64_t pair = 0; pair < groups / 2; ++pair) {
    std::uint64_t word;
    std::memcpy(&word, bits + 8 * pair, sizeof(word));
    word = transposed_bits(word);
    digits[2 * pair] = (word << 3) & kNibbles;
    digits[2 * pair + 1] = (word >> 1) & kNibbles;
  }
  if (groups % 2 == 0) return;
  std::uint32_t last;
  std::memcpy(&last, bits + 4 * (groups - 1), sizeof(last));
  digits[groups - 1] = (transposed_bits(last) << 3) & kNibbles;
}

void group_digits(const std::uint8_t* bits, std::int64_t groups, std::uint64_t* digits) {
  group_some(bits, groups, digits);
}

#if defined(__x86_64__)
CIMQ_TARGET_REGION("avx2")
void group_digits_avx2(const std::uint8_t* bits, std::int64_t groups, std::uint64_t* digits) {
  group_some(bits, groups, digits);
}
CIMQ_TARGET_REGION_END
#endif

/// group_digits() in the widest vectors that may be used.
GroupDigits chosen_group_digits() {
#if defined(__x86_64__)
  if (in_use().avx2) return group_digits_avx2;
#endif
  return group_digits;
}

/// Digits of one input that lie beside each other, all at once.
template <std::size_t kDigits>
void write_groups(const std::uint64_t* digits, std::int64_t groups, std::uint8_t* out) {
  for (std::int64_t g = 0; g < groups; ++g) std::memcpy(out + g * kDigitBlock, digits + g, kDigits);
}

}  // namespace

int DigitBlock::digits_of(const MvmPlan& plan, const PackedCells& cells) {
  return cells.mode() == MvmMode::kSliced ? plan.n_x : 1;
}

std::int64_t DigitBlock::row_bytes(const PackedCells& cells, std::int64_t tile, DigitFormat format) {
  const std::int64_t groups = (cells.inputs_of_tile(tile) + 3) / 4;
  switch (format) {
    case DigitFormat::kGroups:
      return groups;
    case DigitFormat::kMatrix:
      return input_tiles(groups).bytes();
    case DigitFormat::kLikeCells:
      break;
  }
  return cells.steps_of_tile(tile) * 4;
}

DigitBlock::DigitBlock(const MvmPlan& plan, const PackedCells& cells, std::int64_t max_rows, DigitFormat format)
    : plan_(plan),
      cells_(cells),
      format_(format),
      digit_count_(digits_of(plan, cells)),
      digit_bits_(cells.mode() == MvmMode::kSliced ? plan.dac_bits : plan.act_bits),
      skip_zero_(plan.zero_input_is_zero_code()),
      sums_digits_(cells.format() != CellFormat::kBits && (cells.cell_bias() != 0 || plan.reads != ReadModel::kNone)),
      group_digits_of_(chosen_group_digits()) {
  input_shift_ = plan.input_shift;
  if (cells.mode() == MvmMode::kDigital) {
    // The digital product takes unsigned bytes: signed activations shifted, whatever the drivers would do.
    input_shift_ = plan.act_signed ? half_range(plan.act_bits) : 0;
  }
  keep_sign_ = cells.mode() == MvmMode::kFoldedDigits && plan.act_signed && input_shift_ == 0;
  max_digit_ = static_cast<std::int32_t>(low_mask(std::min(digit_bits_, plan.act_bits)));
  whole_bytes_ = cells.mode() == MvmMode::kDigital && cells.format() == CellFormat::kBytes &&
                 format != DigitFormat::kGroups && input_shift_ == 0 && plan.weight_shift == 0 &&
                 cells.cell_bias() == 0;
  no_copy_ = whole_bytes_ && cells.tiles() == 1 && row_bytes(cells, 0, format) == plan.inputs;
  std::size_t offset = 0;
  for (std::int64_t t = 0; t < cells.tiles(); ++t) {
    tile_offsets_.push_back(offset);
    offset += static_cast<std::size_t>(ceil_div<std::int64_t>(max_rows * digit_count_, kDigitBlock) * kDigitBlock *
                                       row_bytes(cells, t, format));
  }
  if (!no_copy_) data_.resize(offset);
  rows_.resize(static_cast<std::size_t>(cells.tiles()));
  for (auto& rows : rows_) rows.reserve(static_cast<std::size_t>(max_rows * digit_count_));
  applied_sums_.resize(static_cast<std::size_t>(max_rows));
  // Tiles after the first are as large or smaller.
  if (format == DigitFormat::kGroups) group_digits_.resize(static_cast<std::size_t>(row_bytes(cells, 0, format)));
  bits_.resize(
      static_cast<std::size_t>(std::max(cells.steps_of_tile(0) * std::max<std::int64_t>(4, cells.inputs_of_step()),
                                        row_bytes(cells, 0, format)) +
                               4));
}

std::int64_t DigitBlock::bytes_per_row(const MvmPlan& plan, const PackedCells& cells, DigitFormat format) {
  std::int64_t bytes = 0;
  for (std::int64_t t = 0; t < cells.tiles(); ++t) {
    bytes += row_bytes(cells, t, format) + static_cast<std::int64_t>(sizeof(TileRow));
  }
  return bytes * digits_of(plan, cells);
}

std::int64_t DigitBlock::rows_per_block(const MvmPlan& plan, const PackedCells& cells, DigitFormat format) {
  const bool many = format != DigitFormat::kLikeCells;
  const std::int64_t bytes = bytes_per_row(plan, cells, format);
  const std::int64_t most = format == DigitFormat::kMatrix ? kMaxMatrixRows : kTableDigitRows;
  const std::int64_t wanted =
      std::clamp((many ? kTableBlockBytes : kBlockBytes) / bytes, kMinBlockRows,
                 many ? std::min(kTableDigitRows / digits_of(plan, cells), most) : kMaxBlockRows);
  return std::clamp<std::int64_t>(kMostBytes / bytes, 1, wanted);
}

void DigitBlock::load(const std::uint8_t* x, std::int64_t rows) {
  if (no_copy_) {
    refer_to(x, rows);
    return;
  }
  for (auto& tile_rows : rows_) tile_rows.clear();
  for (std::int64_t row = 0; row < rows; ++row) {
    if (whole_bytes_) {
      copy_row(x + row * plan_.inputs, static_cast<std::int32_t>(row));
    } else if (cells_.format() == CellFormat::kWords && format_ == DigitFormat::kLikeCells) {
      split_row<std::int16_t>(x + row * plan_.inputs, static_cast<std::int32_t>(row));
    } else {
      split_row<std::uint8_t>(x + row * plan_.inputs, static_cast<std::int32_t>(row));
    }
  }
}

/// The applied sums stay zero: they are for the corrections of shifted operands, which are not whole bytes.
void DigitBlock::refer_to(const std::uint8_t* x, std::int64_t rows) {
  in_place_ = reinterpret_cast<const std::byte*>(x);
  std::vector<TileRow>& listed = rows_.front();
  while (static_cast<std::int64_t>(listed.size()) > rows) listed.pop_back();
  while (static_cast<std::int64_t>(listed.size()) < rows) {
    listed.push_back({static_cast<std::int32_t>(listed.size()), 0, 0, 0});
  }
}

void DigitBlock::copy_row(const std::uint8_t* x, std::int32_t row) {
  const auto mask = static_cast<std::uint8_t>(low_mask(plan_.act_bits));
  for (std::int64_t t = 0; t < cells_.tiles(); ++t, x += cells_.tile_inputs()) {
    const std::int64_t inputs = cells_.inputs_of_tile(t);
    const std::int64_t length = row_bytes(cells_, t, format_);
    std::vector<TileRow>& rows = rows_[static_cast<std::size_t>(t)];
    auto* base = reinterpret_cast<std::uint8_t*>(data_.data() + tile_offsets_[static_cast<std::size_t>(t)]);
    std::uint8_t* out = base + static_cast<std::int64_t>(rows.size()) * length;
    for (std::int64_t k = 0; k < inputs; ++k) out[k] = static_cast<std::uint8_t>(x[k] & mask);
    std::fill(out + inputs, out + length, std::uint8_t{0});
    rows.push_back({row, 0, 0, 0});
  }
  applied_sums_[static_cast<std::size_t>(row)] = 0;
}

template <typename Digit>
void DigitBlock::split_row(const std::uint8_t* x, std::int32_t row) {
  const auto shift = static_cast<std::uint8_t>(input_shift_);
  const auto mask = static_cast<std::uint8_t>(low_mask(plan_.act_bits));
  const bool sliced = cells_.mode() == MvmMode::kSliced;
  std::int64_t applied = 0;
  for (std::int64_t t = 0; t < cells_.tiles(); ++t, x += cells_.tile_inputs()) {
    const std::int64_t inputs = cells_.inputs_of_tile(t);
    const std::int64_t steps = cells_.steps_of_tile(t);
    const std::int64_t row_length = row_bytes(cells_, t, format_) / static_cast<std::int64_t>(sizeof(Digit));
    std::uint8_t* bits = bits_.data();
    std::uint8_t seen = 0;
    for (std::int64_t k = 0; k < inputs; ++k) {
      bits[k] = static_cast<std::uint8_t>(static_cast<std::uint8_t>(x[k] + shift) & mask);
      seen = static_cast<std::uint8_t>(seen | bits[k]);
    }
    const std::int64_t whole = std::max((inputs + 3) / 4 * 4, steps * cells_.inputs_of_step());
    std::fill(bits + inputs, bits + std::max(whole, format_ == DigitFormat::kMatrix ? row_length : 0), std::uint8_t{0});
    if (plan_.weight_shift != 0) applied += applied_sum(bits, inputs);
    std::vector<TileRow>& rows = rows_[static_cast<std::size_t>(t)];
    auto* base = reinterpret_cast<Digit*>(data_.data() + tile_offsets_[static_cast<std::size_t>(t)]);
    if (format_ == DigitFormat::kGroups) {
      split_groups(bits, seen, t, row);
      continue;
    }
    for (int i = 0; i < digit_count_; ++i) {
      const int low = i * digit_bits_;
      // Not past the byte: extract() shifts several bytes at once.
      const std::uint32_t digit_mask = low_mask(std::min(digit_bits_, 8 - low));
      if (skip_zero_ && ((unsigned{seen} >> low) & digit_mask) == 0U) continue;
      Digit* out = base + static_cast<std::int64_t>(rows.size()) * row_length;
      if (keep_sign_) {
        for (std::int64_t k = 0; k < inputs; ++k) out[k] = static_cast<Digit>(activation_value(x[k], true));
        std::fill(out + inputs, out + row_length, Digit{0});
      } else if (cells_.format() == CellFormat::kBits) {
        extract_bits(bits, steps, low, reinterpret_cast<std::uint8_t*>(out));
      } else {
        extract(bits, row_length, low, digit_mask, out);
      }
      const std::int32_t sum = sums_digits_ ? std::accumulate(out, out + inputs, std::int32_t{0}) : 0;
      const bool negative = sliced && plan_.digit_weights[static_cast<std::size_t>(i)] < 0;
      rows.push_back({row, low, negative ? 1 : 0, sum});
    }
  }
  applied_sums_[static_cast<std::size_t>(row)] = applied;
}

void DigitBlock::split_groups(const std::uint8_t* bits, std::uint8_t seen, std::int64_t tile, std::int32_t row) {
  constexpr std::int64_t kBlock = kDigitBlock;
  std::vector<TileRow>& rows = rows_[static_cast<std::size_t>(tile)];
  auto* base = reinterpret_cast<std::uint8_t*>(data_.data() + tile_offsets_[static_cast<std::size_t>(tile)]);
  const std::int64_t groups = row_bytes(cells_, tile, format_);
  const std::int64_t inputs = cells_.inputs_of_tile(tile);
  const auto index = static_cast<std::int64_t>(rows.size());
  const unsigned all = low_mask(digit_count_);
  const unsigned present = skip_zero_ ? seen & all : all;
  group_digits_of_(bits, groups, group_digits_.data());
  auto* together = base + index / kBlock * (kBlock * groups) + index % kBlock;
  if (present == all && digit_count_ == 8 && index % 8 == 0) {
    write_groups<8>(group_digits_.data(), groups, together);
  } else if (present == all && digit_count_ == 4 && index % 4 == 0) {
    write_groups<4>(group_digits_.data(), groups, together);
  } else {
    std::array<std::int64_t, 8> offsets{};
    std::array<int, 8> shifts{};
    std::size_t count = 0;
    for (int i = 0; i < digit_count_; ++i) {
      if (((present >> i) & 1U) == 0U) continue;
      const std::int64_t at = index + static_cast<std::int64_t>(count);
      offsets[count] = at / kBlock * (kBlock * groups) + at % kBlock;
      shifts[count++] = 8 * i;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::uint64_t digits = group_digits_[static_cast<std::size_t>(g)];
      for (std::size_t j = 0; j < count; ++j) {
        base[offsets[j] + g * kBlock] = static_cast<std::uint8_t>(digits >> shifts[j]);
      }
    }
  }
  for (int i = 0; i < digit_count_; ++i) {
    if (((present >> i) & 1U) == 0U) continue;
    std::int32_t sum = 0;
    if (sums_digits_) {
      for (std::int64_t k = 0; k < inputs; ++k) sum += (bits[k] >> i) & 1;
    }
    rows.push_back({row, i, plan_.digit_weights[static_cast<std::size_t>(i)] < 0 ? 1 : 0, sum});
  }
}

std::int64_t DigitBlock::applied_sum(const std::uint8_t* bits, std::int64_t inputs) const {
  std::int64_t sum = 0;
  for (std::int64_t k = 0; k < inputs; ++k) sum += bits[k];
  if (!plan_.act_signed || input_shift_ != 0) return sum;
  // Two's complement: the top bit counts -2^(a-1) instead of 2^(a-1).
  for (std::int64_t k = 0; k < inputs; ++k) sum -= std::int64_t{bits[k] >> (plan_.act_bits - 1)} << plan_.act_bits;
  return sum;
}

}  // namespace cimq::kernels::cpu
