#include "compiler/passes/check.h"

#include "compiler/verify/closed_form.h"
#include "compiler/verify/program.h"

namespace cimq::compiler {
namespace {

void verify(Module& module, Context&) { verify_program(program_of(module), module.graph); }

void compare(Module& module, Context&) { check_closed_form(program_of(module), module.graph, module.hardware); }

}  // namespace

Pass verify_pass() { return {"verify", {Part::kProgram}, std::nullopt, verify}; }

Pass closed_form_pass() { return {"closed_form", {Part::kProgram}, std::nullopt, compare}; }

}  // namespace cimq::compiler
