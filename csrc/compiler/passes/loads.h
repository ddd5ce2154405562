// A module's crossbar layers and machine as plans take them (plan/stationary.h).
#pragma once

#include <vector>

#include "compiler/cost/rounds.h"
#include "compiler/ir/module.h"

namespace cimq::compiler {

/// Every crossbar layer, without copies.
std::vector<LayerLoad> loads_of(const Module& module);

/// Without a pool.
PoolMachine pool_machine(const Hardware& hardware);

}  // namespace cimq::compiler
