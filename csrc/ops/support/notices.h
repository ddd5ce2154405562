// What a user should know, said once, from code that does not know Python: cimq._C turns it into a CimqWarning.
#pragma once

#include <functional>
#include <string>

namespace cimq::ops {

/// Hears notices from now on; without a listener they go to the standard error stream. The listener lives as long as
/// the process. It may be called by any thread.
void on_notice(std::function<void(const std::string&)> listener);

/// Says `text`. What the listener throws goes to the caller.
void notice(const std::string& text);

}  // namespace cimq::ops
