// Tries several ways to a program and takes the fastest.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// Gives the program that takes the least simulated time, with copies, placement and schedule that it comes from:
/// layers in series, and layers taking turns by rows; with the copies that the context says, by kAny with those of
/// every rule. Of equal ones the first, so that it is layers in series without copies where nothing is faster.
Pass fastest_pass();

}  // namespace cimq::compiler
