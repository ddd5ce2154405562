// Operands of a crossbar call whose tensors lie on a device: what the host must know of them, learned with as few waits
// as possible.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/mapping.h"
#include "ops/cuda/device_call.h"
#include "ops/support/crossbar_args.h"

namespace cimq::ops {

/// Refuses the plain loops of the reference, which only the CPU computes.
void refuse_reference(const char* op, const CrossbarArgs& args);

/// A call whose operands lie on a device, while it lives that of x_q is current. Its ranges, adc_lo and adc_lsb, are on
/// the CPU, where plans are made: waits for the device where they lie there, and refuses that while a graph is
/// captured.
struct CrossbarOnDevice {
  /// Of products: x_q, w_q and further operands must be on one device.
  CrossbarOnDevice(const char* op, const at::Tensor& x_q, const at::Tensor& w_q, const CrossbarCall& given);

  DeviceCall device;
  CrossbarCall call;
};

/// The operands of one call as bytes on the device. Whether they hold integers in range is found out on the device and
/// asked once for all of them.
class NarrowedOperands {
 public:
  NarrowedOperands(const char* op, const DeviceCall& call) : op_(op), call_(call) {}

  /// A contiguous tensor of the low bytes of `tensor`, of any type of one byte: starts on the current stream what
  /// ops::narrowed() does on the CPU. At most 31 operands. `zero`: whether 0 is allowed. Throws TypeError.
  at::Tensor add(const char* name, const at::Tensor& tensor, const IntegerRange& range, bool zero = true);
  at::Tensor add_activations(const at::Tensor& x, const CrossbarCall& call) {
    return add("x_q", x, activation_range(call.act_bits, call.act_signed));
  }
  at::Tensor add_weights(const at::Tensor& w, const CrossbarCall& call) {
    return add("w_q", w, weight_range(call.weight_bits), call.weight_bits > 1);
  }

  /// Waits until all operands are bytes; throws the ValueError of the CPU for the first that holds something else. Does
  /// not wait where every byte is allowed, nor while a graph is captured: its replays do not check.
  void check() const;

 private:
  struct Checked {
    const char* name;
    at::Tensor tensor;
    IntegerRange range;
    bool zero;
  };

  const char* op_;
  const DeviceCall& call_;
  at::Tensor faults_;  ///< one int, a bit for every operand; undefined until it is needed
  std::vector<Checked> checked_;
};

}  // namespace cimq::ops
