// crossbar_mvm on the processor.
//
// Threads: run() works on the calling thread and is const and thread-safe. To use several threads, split the batch:
// `mvm.run(x + begin * inputs, end - begin, y + begin * outputs, first_access + begin)` per thread (at::parallel_for, a
// pool, ...), or where it is small the outputs: run_panels().
#pragma once

#include <cstdint>
#include <memory>

#include "common/hardware.h"
#include "kernels/crossbar_mvm.h"

namespace cimq::kernels {
class ColumnNoise;
}

namespace cimq::kernels::cpu {

class PackedCells;

/// Panels of 64 outputs, [begin, end).
struct PanelRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// The programmed crossbars of one layer on one chip. Immutable.
class CrossbarMvm {
 public:
  /// Programs the weights. Throws cimq::Error as make_mvm_plan and check_weights do.
  explicit CrossbarMvm(const MvmProblem& problem);

  const MvmPlan& plan() const { return *plan_; }
  const PackedCells& cells() const { return *cells_; }
  const ColumnNoise* noise() const { return noise_.get(); }
  /// True: results are int32; false: float32.
  bool exact() const { return plan_->exact; }
  /// Bytes that the packed cells take.
  std::int64_t packed_bytes() const;
  /// Bound of the memory that run() takes for itself, per call (hence per thread), for a batch of this size: blocks of
  /// rows are worked on one after the other, so that it stops growing.
  std::int64_t scratch_bytes(std::int64_t batch) const;

  /// x [batch, inputs], y [batch, outputs]. Row b is access first_access + b of the layer, which read noise depends on.
  /// The int32 form needs exact(), the float form !exact(); the other throws
  /// cimq::Error, as do activations outside act_bits.
  void run(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, std::uint64_t first_access = 0) const;
  void run(const std::uint8_t* x, std::int64_t batch, float* y, std::uint64_t first_access = 0) const;

  /// Panels of 64 outputs that the layer has.
  std::int64_t panels() const;
  /// The outputs of some panels only; y is the whole output, of which the others are left alone.
  void run_panels(const std::uint8_t* x, std::int64_t batch, PanelRange panels, std::int32_t* y,
                  std::uint64_t first_access = 0) const;
  void run_panels(const std::uint8_t* x, std::int64_t batch, PanelRange panels, float* y,
                  std::uint64_t first_access = 0) const;
  /// How to share a batch among threads: true: its rows, false: the panels.
  bool splits_batch(std::int64_t batch, std::int64_t threads) const;

 private:
  std::shared_ptr<const MvmPlan> plan_;
  std::shared_ptr<const PackedCells> cells_;
  std::shared_ptr<const ColumnNoise> noise_;  ///< null without read noise
};

/// Bound of the memory that programming a matrix takes: of a CrossbarMvm with this plan, while it is made.
std::int64_t programming_bytes(const Hardware& hardware, const MvmPlan& plan);

/// Whether int8 products of lossless layers beat float32 ones of the same size on this machine.
bool has_fast_products();

}  // namespace cimq::kernels::cpu
