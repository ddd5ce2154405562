// reflection_pad, replication_pad, circular_pad: borders made of the values inside.
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "runtime/steps/step.h"

namespace cimq::runtime {
namespace {

using compiler::Node;
using compiler::OpKind;
using compiler::Shape;

/// Where element i of a padded dimension comes from; `i` counts from the first element of the input.
std::int64_t source_of(OpKind op, std::int64_t i, std::int64_t size) {
  switch (op) {
    case OpKind::kReflectionPad:
      return i < 0 ? -i : (i < size ? i : 2 * (size - 1) - i);
    case OpKind::kCircularPad:
      return i < 0 ? i + size : (i < size ? i : i - size);
    default:
      return std::clamp<std::int64_t>(i, 0, size - 1);
  }
}

class BorderStep final : public Step {
 public:
  BorderStep(OpKind op, Shape in, Shape out, Shape before)
      : op_(op), in_(std::move(in)), out_(std::move(out)), before_(std::move(before)), stride_(in_.size()) {
    for (std::size_t i = in_.size(); i-- > 0;) {
      stride_[i] = elements_;
      elements_ *= in_[i];
    }
  }

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    for (std::int64_t b = 0; b < batch; ++b) out = fill(0, inputs[0] + b * elements_, out);
  }

 private:
  float* fill(std::size_t dim, const float* from, float* out) const {
    if (dim == in_.size()) {
      *out = *from;
      return out + 1;
    }
    for (std::int64_t i = 0; i < out_[dim]; ++i) {
      out = fill(dim + 1, from + source_of(op_, i - before_[dim], in_[dim]) * stride_[dim], out);
    }
    return out;
  }

  OpKind op_;
  Shape in_, out_, before_, stride_;
  std::int64_t elements_ = 1;
};

std::unique_ptr<Step> make_border(const StepContext& context, const Node& node) {
  return std::make_unique<BorderStep>(node.op, context.graph.shape_of(node.inputs[0]), node.shape, node.pad_before);
}

}  // namespace

std::span<const StepRow> border_steps() {
  static constexpr std::array kSteps = {StepRow{OpKind::kReflectionPad, make_border},
                                        StepRow{OpKind::kReplicationPad, make_border},
                                        StepRow{OpKind::kCircularPad, make_border}};
  return kSteps;
}

}  // namespace cimq::runtime
