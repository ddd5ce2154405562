// A module's crossbar layers and machine as plans take them (plan/stationary.h).
#pragma once

#include <vector>

#include "compiler/cost/rounds.h"
#include "compiler/ir/module.h"
#include "compiler/plan/options.h"

namespace cimq::compiler {

/// Every crossbar layer, without copies.
std::vector<LayerLoad> loads_of(const Module& module);

/// How every crossbar layer comes in rows; at once where it cannot.
std::vector<LayerRows> rows_of_layers(const Module& module);

/// Without a pool.
PoolMachine pool_machine(const Hardware& hardware);

}  // namespace cimq::compiler
