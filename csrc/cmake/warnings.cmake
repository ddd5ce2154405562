# One interface target carries what every cimq target is compiled with.
# No -march=native and no fast-math: kernels choose their ISA at run time, and the numeric contract
# (docs/numbers.md) needs every float operation rounded once, hence -ffp-contract=off.
add_library(cimq_flags INTERFACE)
target_compile_options(cimq_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-ffp-contract=off>)
if(CIMQ_WERROR)
  target_compile_options(cimq_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(CIMQ_SANITIZE)
  target_compile_options(cimq_flags INTERFACE -fsanitize=${CIMQ_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(cimq_flags INTERFACE -fsanitize=${CIMQ_SANITIZE})
endif()
