// Hardware crosses the dispatcher as JSON text; it is parsed once per text.
#pragma once

#include <memory>
#include <string>

#include "common/hardware.h"

namespace cimq::ops {

/// The hardware that `json` describes. Thread-safe. Throws cimq::Error naming the wrong key.
std::shared_ptr<const Hardware> cached_hardware(const std::string& json);

}  // namespace cimq::ops
