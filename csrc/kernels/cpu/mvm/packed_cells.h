// Cells of a layer in the order in which the tile kernels read them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "common/hardware.h"
#include "kernels/cpu/tile/tile_kernel.h"
#include "kernels/plan/mvm_plan.h"

namespace cimq::kernels::cpu {

/// How a layer is computed: sliced as the hardware does, or with what provably gives the same folded together.
enum class MvmMode {
  kDigital,       ///< lossless: x . w^T in one product
  kFoldedDigits,  ///< ideal converter, cells that are not exactly their levels: one product per slice with the whole
                  ///< activation
  kSliced,        ///< every digit and slice
};

/// How cells and digits are stored (tile_kernel.h).
enum class CellFormat { kBytes, kWords, kBits };

/// The kernel that takes cells of `format`, and digits stored in the same way.
TileKernel kernel_of(const TileKernels& kernels, CellFormat format);

/// One set of cells that is multiplied at once.
struct CellPlane {
  int slice = 0;
  bool negative = false;  ///< the second column of a pair converted on its own
  bool variance = false;  ///< not conductances, but the variances of their read noise
};

class PackedCells {
 public:
  PackedCells(const Hardware& hardware, const MvmPlan& plan, const MvmOptions& options, const std::int8_t* w);

  /// Bound of the memory that the constructor takes, what it gives back at its end included.
  static std::int64_t bytes_to_make(const Hardware& hardware, const MvmPlan& plan);

  MvmMode mode() const { return mode_; }
  CellFormat format() const { return format_; }
  bool pairs() const { return lines_ == 2; }  ///< bits: the two columns of a pair side by side
  const std::vector<CellPlane>& planes() const { return planes_; }
  /// The plane of variances that belongs to a plane of conductances; proportional read noise only.
  std::size_t variance_plane(std::size_t plane) const { return plane + planes_.size() / 2; }
  std::int64_t tile_inputs() const { return tile_inputs_; }
  std::int64_t tiles() const { return tiles_; }
  std::int32_t cell_bias() const { return cell_bias_; }
  /// Bounds of the stored cells, 0 between them; int8 and int16 cells only.
  std::int32_t min_cell() const { return min_cell_; }
  std::int32_t max_cell() const { return max_cell_; }
  std::int64_t bytes() const { return bytes_; }
  /// Sum of the weights of each output, for the digital corrections.
  const std::vector<std::int64_t>& weight_sums() const { return weight_sums_; }

  std::int64_t panels() const { return (outputs_ + kPanelWidth - 1) / kPanelWidth; }
  /// Outputs of a panel, padded to a multiple of kLaneWidth.
  int panel_width(std::int64_t panel) const;
  /// Outputs of a panel.
  int panel_outputs(std::int64_t panel) const;
  std::int64_t inputs_of_tile(std::int64_t tile) const;
  std::int64_t inputs_of_step() const;
  std::int64_t steps_of_tile(std::int64_t tile) const;
  const std::byte* tile(std::int64_t panel, std::size_t plane, std::int64_t tile) const;
  /// False if every cell of the tile is exactly zero.
  bool any_cell(std::int64_t panel, std::size_t plane, std::int64_t tile) const;

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };

  /// The layout without the cells.
  explicit PackedCells(const MvmPlan& plan);

  void choose_mode(const MvmPlan& plan);
  void note_cell(std::int32_t value);
  std::size_t flag_index(std::int64_t panel, std::size_t plane, std::int64_t tile) const;
  std::int64_t offset(std::int64_t panel, std::size_t plane, std::int64_t tile) const;
  /// Packs the values source(output * inputs + input) of one plane.
  template <typename Cell, typename Source>
  void fill(std::size_t plane, const Source& source);
  template <typename Cell, typename Source>
  void fill_panel(std::int64_t panel, std::size_t plane, const Source& source);
  /// Packs single bits; source gives -1, 0 or 1.
  template <typename Source>
  void fill_bits(std::size_t plane, const Source& source);

  MvmMode mode_ = MvmMode::kSliced;
  CellFormat format_ = CellFormat::kBytes;
  std::int64_t lines_ = 1;  ///< of cells per step
  std::int64_t outputs_ = 0;
  std::int64_t inputs_ = 0;
  std::vector<CellPlane> planes_;
  std::int64_t tile_inputs_ = 1;
  std::int64_t tiles_ = 1;
  std::int64_t steps_ = 0;  ///< of all tiles
  std::int32_t cell_bias_ = 0;
  std::int32_t min_cell_ = 0;
  std::int32_t max_cell_ = 0;
  std::int64_t bytes_ = 0;
  std::vector<std::int64_t> weight_sums_;
  std::vector<std::uint8_t> any_cell_;  ///< bytes, which threads may write beside each other
  std::unique_ptr<std::byte[], Free> data_;
};

}  // namespace cimq::kernels::cpu
