// Declares the binding functions that module.cpp collects.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <utility>

#include "common/layer_machine.h"

namespace cimq::python {

/// (ADC bits, mapping) that a layer chooses; None: as the machine.
using MachineTuple = std::pair<std::optional<int>, std::optional<std::string>>;
/// Throws Error for an unknown mapping.
LayerMachine machine_of(const MachineTuple& tuple);

void bind_build_info(pybind11::module_& m);       // build facts, ISA list
void bind_hardware(pybind11::module_& m);         // common/hardware: the one check of descriptions
void bind_mapping(pybind11::module_& m);          // common/mapping: columns, rows, digits, slices, converters
void bind_latency(pybind11::module_& m);          // compiler/cost
void bind_compiler(pybind11::module_& m);         // compiler: bundle -> program
void bind_simulation(pybind11::module_& m);       // compiler/sim: the time of a program; area and power of a machine
void bind_pipeline_cost(pybind11::module_& m);    // compiler/feedback: what policies cost as programs
void bind_agent(pybind11::module_& m);            // agent/reinforce
void bind_damage_model(pybind11::module_& m);     // agent/damage_model
void bind_knapsack(pybind11::module_& m);         // agent/knapsack
void bind_pairwise_damage(pybind11::module_& m);  // agent/pairwise_damage
void bind_runtime(pybind11::module_& m);          // runtime: bundle reader and executor
void bind_kernels(pybind11::module_& m);          // what ops/ needs from Python besides the dispatcher
void bind_notices(pybind11::module_& m);          // what operators have to say: warnings

}  // namespace cimq::python
