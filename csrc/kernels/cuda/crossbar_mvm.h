// crossbar_mvm on a CUDA device. A matrix is programmed on the host, once, into one image of bytes; the caller copies
// the image to the device and starts products against it on a stream. Knows pointers, sizes and streams only.
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

/// The programmed crossbars of one layer on `chips` chips, from options.chip on. Immutable. Plain C++: nothing of CUDA.
class MvmLayer {
 public:
  /// Throws cimq::Error as make_mvm_plan and check_weights do, and for read noise.
  explicit MvmLayer(const MvmProblem& problem, int chips = 1);

  const MvmPlan& plan() const { return plan_; }
  int chips() const { return chips_; }
  /// Cells are 16 bits, as two bytes: fractional conductances, and levels above 127.
  bool words() const { return words_; }
  Converter converter() const { return converter_; }
  /// What the device needs of the layer; to be copied to an address that is a multiple of 16.
  const std::vector<std::byte>& image() const { return image_; }

  /// Arguments of the kernel with the image at `image` on the device and these operands.
  MvmArguments arguments(const std::byte* image, const std::uint8_t* x, std::int64_t batch, void* y) const;

 private:
  void choose(const MvmProblem& problem);
  void set_digits();
  void set_converter();
  void program(const MvmProblem& problem);
  void fill_chip(const MvmProblem& problem, int chip);
  void fill_line(std::byte* plane, std::int64_t output, const std::int32_t* cells) const;
  template <typename T>
  std::size_t append(const std::vector<T>& values);

  MvmPlan plan_;
  int chips_;
  bool words_ = false;
  bool digital_ = false;
  Converter converter_ = Converter::kGeneral;
  MvmArguments arguments_ = {};  // without pointers, batch and operands
  std::vector<std::byte> image_;
  std::size_t weight_sums_ = 0;  // offsets in the image
  std::size_t lo_constants_ = 0;
  std::size_t column_lo_ = 0;
  std::size_t column_inv_lsb_ = 0;
  std::size_t column_scale_ = 0;
};

/// Starts y = crossbar(x . w^T) on `stream`. `image`: the layer's, on the device. x [batch, inputs], raw bits within
/// act_bits (values beyond are the caller's to refuse); y [chips, batch, outputs], int32 where plan().exact, else
/// float. Throws LaunchError. An empty batch starts nothing.
void crossbar_mvm(const MvmLayer& layer, const std::byte* image, const std::uint8_t* x, std::int64_t batch, void* y,
                  Stream stream);

}  // namespace cimq::kernels::cuda
