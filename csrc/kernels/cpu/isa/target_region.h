// Code between CIMQ_TARGET_REGION("...") and CIMQ_TARGET_REGION_END is compiled for those instruction sets, and nothing
// else is: no -m flags, so that a shared inline function cannot end up in a form that an older machine cannot run.
// Include every header before the region.
#pragma once

#define CIMQ_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define CIMQ_TARGET_REGION(isa) CIMQ_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define CIMQ_TARGET_REGION_END CIMQ_PRAGMA(clang attribute pop)
#else
#define CIMQ_TARGET_REGION(isa) \
  CIMQ_PRAGMA(GCC push_options) \
  CIMQ_PRAGMA(GCC target(isa))
#define CIMQ_TARGET_REGION_END CIMQ_PRAGMA(GCC pop_options)
#endif
