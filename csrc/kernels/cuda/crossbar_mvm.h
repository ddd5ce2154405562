// crossbar_mvm on a CUDA device. A matrix is programmed into one image of bytes: on the host, whose caller copies the
// image to the device, or on the device (program_matrix), where the weights are there already. Products against it are
// started on a stream. Knows pointers, sizes and streams only.
//
// Read noise is not computed here: MvmLayer refuses it. Everything else that makes cells differ is in the cells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/crossbar_mvm.h"
#include "kernels/cuda/mvm_arguments.h"
#include "kernels/cuda/stream.h"

namespace cimq::kernels::cuda {

/// Where cells and sums of weights are made.
enum class Programming { kOnHost, kOnDevice };

/// The programmed crossbars of one layer on `chips` chips, from options.chip on. Immutable. Plain C++: nothing of CUDA.
class MvmLayer {
 public:
  /// Throws cimq::Error as make_mvm_plan and check_weights do, and for read noise.
  explicit MvmLayer(const MvmProblem& problem, int chips = 1) : MvmLayer(std::vector<MvmProblem>{problem}, chips) {}
  /// Several matrices of one layer, of the same shape: the groups of a convolution.
  /// kOnDevice: the weights are not read and may be null; checking them is the caller's.
  MvmLayer(const std::vector<MvmProblem>& groups, int chips, Programming programming = Programming::kOnHost);

  /// Of the first group; the others differ in converter ranges per column alone.
  const MvmPlan& plan() const { return plan_; }
  int chips() const { return chips_; }
  int groups() const { return groups_; }
  /// Cells are 16 bits, as two bytes: fractional conductances, and levels above 127.
  bool words() const { return words_; }
  Converter converter() const { return converter_; }
  /// What the device needs of the layer; to be copied to an address that is a multiple of 16.
  const std::vector<std::byte>& image() const { return image_; }
  /// Where in the image that begins which program_matrix does not write; the caller copies it from there on first.
  std::size_t tables_begin() const { return weight_sums_; }

  /// Arguments of the kernel with the image at `image` on the device.
  MvmArguments arguments(const std::byte* image, std::int64_t rows, void* y) const;
  MatrixArguments matrix(const std::uint8_t* x) const;

  /// How levels follow from weights, for program_matrix.
  PackArguments packing(const std::int8_t* w, const std::int16_t* conductances) const;

  /// Bytes at the end of the image, for what belongs to the layer; returns where they begin.
  std::size_t append(const void* data, std::size_t bytes);

 private:
  void choose();
  void set_digits();
  void set_converter();
  void program(const std::vector<MvmProblem>& groups, Programming programming);
  void fill_matrix(const MvmProblem& problem, int chip, std::byte* plane) const;
  void fill_line(std::byte* plane, std::int64_t output, const std::int32_t* cells) const;
  template <typename T>
  std::size_t append(const std::vector<T>& values) {
    return append(values.data(), values.size() * sizeof(T));
  }

  MvmPlan plan_;
  int groups_;
  int chips_;
  bool words_ = false;
  bool digital_ = false;
  Converter converter_ = Converter::kGeneral;
  MvmArguments arguments_ = {};  // without pointers and rows
  std::vector<std::byte> image_;
  std::size_t weight_sums_ = 0;  // offsets in the image
  std::size_t lo_constants_ = 0;
  std::size_t column_lo_ = 0;
  std::size_t column_inv_lsb_ = 0;
  std::size_t column_scale_ = 0;
};

/// Programs one group on one chip (counted from the layer's first) of an image on the device, on `stream`: its cells
/// and sums of weights. w [outputs, inputs] of the group; conductances [n_w][polarities][outputs][inputs] where plan()
/// .fractional (cuda::programmed_cells makes them), else null; both on the device. The same bytes as on the host.
void program_matrix(const MvmLayer& layer, int chip, int group, const std::int8_t* w, const std::int16_t* conductances,
                    std::byte* image, Stream stream);

/// Starts y = crossbar(x . w^T) on `stream`. `image`: the layer's, on the device. x [batch, inputs], raw bits within
/// act_bits (values beyond are the caller's to refuse); y [chips, batch, outputs], int32 where plan().exact, else
/// float. Throws LaunchError. An empty batch starts nothing.
void crossbar_mvm(const MvmLayer& layer, const std::byte* image, const std::uint8_t* x, std::int64_t batch, void* y,
                  Stream stream);

}  // namespace cimq::kernels::cuda
