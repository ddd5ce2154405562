// The machine's int8 peak: the roofline that benchmarks compare the crossbar kernels with.
#pragma once

#include <string_view>

namespace cimq::benchmarks {

/// Runs the int8 multiply-add instruction of `isa` on registers alone for a fraction of a millisecond (tdpbusd for amx,
/// vpdpbusd for avx512, vpmaddubsw + vpaddw for avx2, sdot or smlal for neon, a compiled dot product for anything else)
/// on the calling thread, and returns the number of multiply-adds done. The caller takes the time.
double int8_peak_products(std::string_view isa);

}  // namespace cimq::benchmarks
