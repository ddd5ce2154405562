// Which shapes normalisations take.
#include "kernels/normalization.h"

#include "common/error.h"

namespace cimq::kernels {

void check_layer_norm(std::int64_t rows, std::int64_t n) {
  check(rows >= 0 && n >= 1, "layer_norm: needs at least one value to normalise, got [", rows, ", ", n, "]");
}

void check_group_norm(std::int64_t batch, std::int64_t channels, std::int64_t inner, std::int64_t groups) {
  check(groups >= 1 && channels >= 1 && channels % groups == 0, "group_norm: groups must divide the channels, got ",
        groups, " and ", channels);
  check(batch >= 0 && inner >= 1, "group_norm: needs at least one value per channel, got [", batch, ", ", channels,
        ", ", inner, "]");
}

}  // namespace cimq::kernels
