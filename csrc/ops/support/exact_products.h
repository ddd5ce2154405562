// What Python asks of the products of libraries, without a header of torch.
#pragma once

namespace cimq::ops {

/// Whether oneDNN convolves bytes exactly in this process, found by a trial (proof.h): without AVX-512 VNNI, or where
/// ONEDNN_MAX_CPU_ISA keeps it from that, it adds pairs of products in 16 bits, which saturate.
bool has_exact_products();

}  // namespace cimq::ops
