#include "kernels/activation.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/vector_access.h"

namespace cimq::kernels::cuda {
namespace {

constexpr unsigned kThreads = 256;

/// A thread has one item of the run. A kernel for each kind, as their formulas need very different registers.
template <Activation kKind>
__global__ void __launch_bounds__(kThreads) activation_values(const float* x, VectorRun run, float alpha, float* y) {
  const std::int64_t item = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= run.items()) return;
  const std::int64_t at = run.begin(item);
  if (run.is_vector(item)) {
    Vector<float> v = load_vector(x + at);
#pragma unroll
    for (int lane = 0; lane < kLanesOf<float>; ++lane) v.lane[lane] = activate(kKind, v.lane[lane], alpha);
    store_vector(y + at, v);
  } else {
    y[at] = activate(kKind, x[at], alpha);
  }
}

auto kernel_of(Activation kind) {
  switch (kind) {
    case Activation::kSigmoid:
      return activation_values<Activation::kSigmoid>;
    case Activation::kSilu:
      return activation_values<Activation::kSilu>;
    case Activation::kHardsigmoid:
      return activation_values<Activation::kHardsigmoid>;
    case Activation::kTanh:
      return activation_values<Activation::kTanh>;
    case Activation::kGelu:
      return activation_values<Activation::kGelu>;
    case Activation::kGeluTanh:
      return activation_values<Activation::kGeluTanh>;
    case Activation::kElu:
      return activation_values<Activation::kElu>;
    case Activation::kHardswish:
      break;
  }
  return activation_values<Activation::kHardswish>;
}

}  // namespace

void activation(Activation kind, const float* x, std::int64_t count, float* y, float alpha, Stream stream) {
  if (count == 0) return;
  const VectorRun run = vector_run(count, x, y);
  launch({"activation", "activation_values", {{{"values", count}}}}, grid_of(run.items(), kThreads), stream,
         kernel_of(kind), x, run, alpha, y);
}

}  // namespace cimq::kernels::cuda
