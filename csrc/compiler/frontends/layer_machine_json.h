// What a layer has otherwise than the machine, as layers.json and policy.json say it.
#pragma once

#include "common/layer_machine.h"
#include "compiler/frontends/strict_json.h"

namespace cimq::compiler {

/// The keys `adc_bits` and `mapping` of a row; without them the layer is as the machine. Throws Error for ADC bits
/// outside 1..16 and an unknown mapping.
LayerMachine read_machine(ObjectReader& reader);

}  // namespace cimq::compiler
