// crossbar_mvm on a CUDA device. A layer is bytes of two kinds: constants, which do not depend on the weights, and what
// is programmed, cells and sums of weights. The latter is made on the host, whose caller copies it to the device, or on
// the device (program_matrices), where the weights are there already. Products are started on a stream. Knows pointers,
// sizes and streams only.
//
// What makes cells differ is in the cells. Read noise, which is new at every access, is added where currents are whole;
// variances of the cells lie beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/crossbar_mvm.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/stream.h"

namespace cimq::kernels::cuda {

/// Where cells and sums of weights are made.
enum class Programming { kOnHost, kOnDevice };

/// A layer in the memory of the device. Both addresses are multiples of 16.
struct DeviceImage {
  const std::byte* programmed;  ///< of `chips` chips
  const std::byte* constants;   ///< the layer's; layers and calls may share them
  int chips = 1;
  std::uint32_t first_chip = 0;  ///< number of the first of them, for read noise
};

/// The accesses of a call, which read noise is drawn for; without it they are ignored.
struct Accesses {
  std::uint64_t seed = 0;
  std::uint32_t layer = 0;
  std::int64_t first_output = 0;  ///< of the first group, within the layer
  std::uint64_t first = 0;        ///< number of row 0
};

/// The crossbars of one layer, from options.chip on. Immutable. Plain C++: nothing of CUDA.
class MvmLayer {
 public:
  /// Throws cimq::Error as make_mvm_plan and check_weights do.
  explicit MvmLayer(const MvmProblem& problem, int chips = 1) : MvmLayer(std::vector<MvmProblem>{problem}, chips) {}
  /// Several matrices of one layer, of the same shape: the groups of a convolution.
  /// kOnDevice: the weights are not read and may be null; checking them is the caller's. `chips` are those that are
  /// programmed on the host.
  MvmLayer(const std::vector<MvmProblem>& groups, int chips, Programming programming = Programming::kOnHost);

  /// Of the first group; the others differ in converter ranges per column alone.
  const MvmPlan& plan() const { return plan_; }
  int chips() const { return chips_; }
  int groups() const { return groups_; }
  /// Words: fractional conductances, and levels above 127.
  Cells cells() const { return cell_kind_; }
  Converter converter() const { return converter_; }

  /// Sums of weights, which all chips share, and the cells of every chip, as programmed on the host; empty with
  /// kOnDevice.
  const std::vector<std::byte>& programmed() const { return programmed_; }
  std::size_t programmed_bytes(int chips) const { return cells_ + static_cast<std::size_t>(chips) * chip_bytes(); }
  std::size_t cells_begin() const { return cells_; }
  std::size_t chip_bytes() const {
    return static_cast<std::size_t>(arguments_.matrix_bytes) * static_cast<std::size_t>(groups_);
  }
  /// What else the device needs. Depends on the plan alone.
  const std::vector<std::byte>& constants() const { return constants_; }

  /// Arguments of the kernel without pointers and rows.
  const MvmArguments& shape() const { return arguments_; }
  MvmArguments arguments(const DeviceImage& image, std::int64_t rows, void* y, const Accesses& accesses) const;
  MatrixArguments matrix(const std::uint8_t* x) const;

  /// Steps of the converters among the constants, [groups][n_w][outputs]; null where a slice has one range: those may
  /// change at every call, and are arguments.
  const double* column_lsb(const DeviceImage& image) const;

  /// How levels follow from weights, for program_matrices.
  PackArguments packing(const std::int8_t* w, const std::int16_t* conductances) const;

  /// Adds to the constants what belongs to the layer, at a multiple of 16; returns where in them it begins.
  std::size_t append(const void* data, std::size_t bytes);

 private:
  void choose();
  void set_digits();
  void set_converter();
  void set_constants(const std::vector<MvmProblem>& groups);
  void program(const std::vector<MvmProblem>& groups);
  void fill_matrix(const MvmProblem& problem, int chip, std::byte* plane) const;
  /// Cells of one output, [inputs]; `part`: 0, or 2 for variances.
  void fill_line(std::byte* plane, std::int64_t output, int part, const std::int32_t* cells) const;
  std::int32_t constant_variance() const;
  template <typename T>
  std::size_t append(const std::vector<T>& values) {
    return append(values.data(), values.size() * sizeof(T));
  }

  MvmPlan plan_;
  int groups_;
  int chips_;
  Cells cell_kind_ = Cells::kBytes;
  bool digital_ = false;
  Converter converter_ = Converter::kGeneral;
  MvmArguments arguments_ = {};  // without pointers and rows
  std::vector<std::byte> programmed_;
  std::size_t cells_ = 0;  // offset behind the sums of weights
  std::vector<std::byte> constants_;
  std::size_t lo_constants_ = 0;  // offsets in the constants
  std::size_t column_lo_ = 0;
  std::size_t column_inv_lsb_ = 0;
  std::size_t column_scale_ = 0;
  std::size_t column_lsb_ = 0;
  std::size_t read_nodes_ = 0;
  int read_sample_bits_ = 0;
};

/// choose(std::integral_constant<Cells, cells>): the kernel for a kind of cells that is known when the program runs.
template <typename Choose>
auto kernel_for(Cells cells, const Choose& choose) {
  switch (cells) {
    case Cells::kBytes:
      return choose(std::integral_constant<Cells, Cells::kBytes>{});
    case Cells::kWords:
      return choose(std::integral_constant<Cells, Cells::kWords>{});
    case Cells::kReads:
      break;
  }
  return choose(std::integral_constant<Cells, Cells::kReads>{});
}

/// Programs chip `chip` of `programmed` on the device, on `stream`: the cells of all groups and, for chip 0, the sums
/// of weights. w [groups][outputs, inputs]; conductances [n_w][polarities][groups][outputs][inputs] of the chip where
/// plan().fractional (programmed_cells of all groups as one matrix), else null; all on the device. The same bytes as on
/// the host. Throws LaunchError.
void program_matrices(const MvmLayer& layer, int chip, const std::int8_t* w, const std::int16_t* conductances,
                      std::byte* programmed, Stream stream);

/// Starts y = crossbar(x . w^T) on `stream`. x [batch, inputs], raw bits within act_bits (values beyond are the
/// caller's to refuse); y [chips, batch, outputs], int32 where plan().exact, else float. Throws LaunchError. An empty
/// batch starts nothing.
void crossbar_mvm(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t batch, void* y,
                  const Accesses& accesses, Stream stream);

}  // namespace cimq::kernels::cuda
