// Passes that make nothing and refuse what must not be handed on.
#pragma once

#include "compiler/passes/pass.h"

namespace cimq::compiler {

/// The program does what its network needs, and counts what it does: verify/program.h.
Pass verify_pass();

/// The program has as many writes and MVMs as the closed form says (verify/closed_form.h).
Pass closed_form_pass();

}  // namespace cimq::compiler
