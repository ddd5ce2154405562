// What converters do (kernels/conversions.h) on a CUDA device, for the matrices of an MvmLayer: all of its groups on
// all of its chips in one launch. Knows pointers, sizes and streams only.
//
// Everything needs a converter and a layer made with allow_collapse = false; cimq::Error otherwise. x [groups, rows,
// inputs], raw bits within act_bits (values beyond are the caller's to refuse). All pointers are on the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conversions.h"
#include "kernels/cuda/crossbar_mvm.h"
#include "kernels/cuda/stream.h"

namespace cimq::kernels::cuda {

/// Starts shares_of_conversions on `stream`: out.pass [chips][groups][row_tiles][columns][n_w][rows][outputs], out.step
/// [chips][groups][n_w][rows][outputs]. The same bits as the CPU's. Throws LaunchError.
void shares_of_conversions(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x,
                           const ConversionShares& out, const Accesses& accesses, Stream stream);

/// Counters of all conversions, per weight slice; what is counted is added to what is there.
struct ConversionCounters {
  std::int64_t* codes;    ///< [n_w][levels]
  std::int64_t* clipped;  ///< [n_w][2]: below, above
  /// [n_w][2]: lowest, highest. Start from the largest and the least number.
  std::int64_t* currents;
  double* squared_error;  ///< [n_w]
  double* scratch;        ///< count_conversions_scratch values
};

std::int64_t count_conversions_scratch(const MvmLayer& layer, int chips, std::int64_t rows);

/// Starts to count on `stream`. The integers are those of the CPU; the squared errors are added up in float64 in an
/// order that depends on the sizes alone. Throws LaunchError.
void count_conversions(const MvmLayer& layer, const DeviceImage& image, const std::uint8_t* x, std::int64_t rows,
                       const ConversionCounters& out, const Accesses& accesses, Stream stream);

}  // namespace cimq::kernels::cuda
