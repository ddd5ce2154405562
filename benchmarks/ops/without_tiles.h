// What the crossbar product on AMX does besides its tile instructions, for machines that have none of those.
#pragma once

namespace cimq::benchmarks {

/// From now on matrix kernels run with tile instructions that do nothing: their results are wrong, their time is that
/// of everything else (digits, the converter, sums). False without AVX-512 VNNI, which that needs.
bool run_without_tiles();

}  // namespace cimq::benchmarks
