# Headers of other packages that most sources of a target read, compiled once: torch's take longer to read than what
# follows them takes to compile. A source must not live on them: `make lint` reads every source of csrc without.
set(CIMQ_TORCH_HEADERS <ATen/core/Tensor.h> <torch/library.h>)

# cimq_precompile(target <header>...) or cimq_precompile(target REUSE_FROM other), whose flags must be the same.
function(cimq_precompile target)
  if(NOT CIMQ_PRECOMPILE OR CMAKE_DISABLE_PRECOMPILE_HEADERS)
    return()
  endif()
  # Where gcc cannot use one (it wants it at a fixed address), it says so and reads the headers.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-error=invalid-pch>)
  if(ARGV1 STREQUAL "REUSE_FROM")
    target_precompile_headers(${target} REUSE_FROM ${ARGV2})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
