// The operator library: schemas live beside their checks, one file per op (TORCH_LIBRARY_FRAGMENT).
#include <torch/library.h>

TORCH_LIBRARY(cimq, m) { m.set_python_module("cimq.ops"); }
