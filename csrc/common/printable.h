// Text from files, made fit for a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace cimq {

/// `text` with every control character written as an escape (\n, \x1b, \u009b): what C0, DEL and C1 could do to a
/// terminal, line ends included, so that a name cannot forge a line. Bytes that are no UTF-8 become \xNN as well. Cut
/// after `max_length` bytes, which "..." then says.
std::string printable(std::string_view text, std::size_t max_length = std::string_view::npos);

/// The same for whole messages: line feeds and tabs stay.
std::string printable_lines(std::string_view text);

}  // namespace cimq
