// flatten, reshape, slice, pad, cat, transpose, expand, flip: values are moved, never changed.
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

class CopyStep final : public Step {
 public:
  explicit CopyStep(std::int64_t elements) : elements_(elements) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    std::copy_n(inputs[0], batch * elements_, out);
  }

 private:
  std::int64_t elements_;
};

/// Copies a box between two arrays: element i of the box is at `offset + sum i_k * stride_k` on both sides.
struct BoxCopy {
  Shape extent, from_stride, to_stride;
  std::int64_t from_offset = 0, to_offset = 0;

  void run(const float* from, float* to) const { copy(0, from + from_offset, to + to_offset); }

 private:
  void copy(std::size_t axis, const float* from, float* to) const {
    for (std::int64_t i = 0; i < extent[axis]; ++i) {
      if (axis + 1 == extent.size()) {
        to[i * to_stride[axis]] = from[i * from_stride[axis]];
      } else {
        copy(axis + 1, from + i * from_stride[axis], to + i * to_stride[axis]);
      }
    }
  }
};

Shape strides_of(const Shape& shape) {
  Shape strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i];
  }
  return strides;
}

/// Fills the result with `fill`, then copies one box of each input into it.
class BoxStep final : public Step {
 public:
  BoxStep(std::vector<BoxCopy> boxes, std::vector<std::int64_t> sizes, std::int64_t elements, std::optional<float> fill)
      : boxes_(std::move(boxes)), sizes_(std::move(sizes)), elements_(elements), fill_(fill) {}

  void run(std::int64_t batch, std::span<const float* const> inputs, float* out, const RawResult*,
           const StepRun&) const override {
    if (fill_) std::fill_n(out, batch * elements_, *fill_);
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::size_t i = 0; i < boxes_.size(); ++i) boxes_[i].run(inputs[i] + b * sizes_[i], out + b * elements_);
    }
  }

 private:
  std::vector<BoxCopy> boxes_;
  std::vector<std::int64_t> sizes_;  // elements of each input
  std::int64_t elements_;
  std::optional<float> fill_;
};

std::int64_t dot(const Shape& a, const Shape& b) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::unique_ptr<Step> make_copy(const StepContext&, const Node& node) {
  return std::make_unique<CopyStep>(compiler::elements(node.shape));
}

/// A step of one box; `adjust` gives its place.
template <typename Adjust>
std::unique_ptr<Step> make_box(const StepContext& context, const Node& node, std::optional<float> fill,
                               const Adjust& adjust) {
  if (node.shape.empty()) return make_copy(context, node);
  const Shape& in = context.graph.shape_of(node.inputs[0]);
  BoxCopy box{in, strides_of(in), strides_of(node.shape)};
  adjust(box);
  return std::make_unique<BoxStep>(std::vector{std::move(box)}, std::vector{compiler::elements(in)},
                                   compiler::elements(node.shape), fill);
}

std::unique_ptr<Step> make_slice(const StepContext& context, const Node& node) {
  return make_box(context, node, std::nullopt, [&](BoxCopy& box) {
    box.extent = node.shape;
    box.from_offset = dot(node.slice_start, box.from_stride);
    for (std::size_t i = 0; i < box.from_stride.size(); ++i) box.from_stride[i] *= node.slice_step[i];
  });
}

std::unique_ptr<Step> make_pad(const StepContext& context, const Node& node) {
  return make_box(context, node, node.pad_value,
                  [&](BoxCopy& box) { box.to_offset = dot(node.pad_before, box.to_stride); });
}

std::unique_ptr<Step> make_transpose(const StepContext& context, const Node& node) {
  return make_box(context, node, std::nullopt, [&](BoxCopy& box) {
    const Shape strides = box.from_stride;
    box.extent = node.shape;
    for (std::size_t i = 0; i < strides.size(); ++i) {
      box.from_stride[i] = strides[static_cast<std::size_t>(node.axes[i])];
    }
  });
}

std::unique_ptr<Step> make_expand(const StepContext& context, const Node& node) {
  return make_box(context, node, std::nullopt, [&](BoxCopy& box) {
    for (std::size_t i = 0; i < node.shape.size(); ++i) {
      if (box.extent[i] == 1) box.from_stride[i] = 0;
    }
    box.extent = node.shape;
  });
}

std::unique_ptr<Step> make_flip(const StepContext& context, const Node& node) {
  return make_box(context, node, std::nullopt, [&](BoxCopy& box) {
    for (const std::int64_t dim : node.axes) {
      std::int64_t& stride = box.from_stride[static_cast<std::size_t>(dim)];
      box.from_offset += (box.extent[static_cast<std::size_t>(dim)] - 1) * stride;
      stride = -stride;
    }
  });
}

std::unique_ptr<Step> make_cat(const StepContext& context, const Node& node) {
  const auto dim = static_cast<std::size_t>(node.dim);
  std::vector<BoxCopy> boxes;
  std::vector<std::int64_t> sizes;
  std::int64_t place = 0;  // where the next input goes
  for (const int input : node.inputs) {
    const Shape& in = context.graph.shape_of(input);
    BoxCopy box{in, strides_of(in), strides_of(node.shape)};
    box.to_offset = place * box.to_stride[dim];
    place += in[dim];
    sizes.push_back(compiler::elements(in));
    boxes.push_back(std::move(box));
  }
  return std::make_unique<BoxStep>(std::move(boxes), std::move(sizes), compiler::elements(node.shape), std::nullopt);
}

}  // namespace

std::span<const StepRow> shape_steps() {
  static constexpr std::array kSteps = {
      StepRow{OpKind::kFlatten, make_copy},  StepRow{OpKind::kReshape, make_copy},
      StepRow{OpKind::kSlice, make_slice},   StepRow{OpKind::kPad, make_pad},
      StepRow{OpKind::kCat, make_cat},       StepRow{OpKind::kTranspose, make_transpose},
      StepRow{OpKind::kExpand, make_expand}, StepRow{OpKind::kFlip, make_flip}};
  return kSteps;
}

}  // namespace cimq::runtime
