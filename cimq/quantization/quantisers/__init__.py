"""How numbers become integers: scales and zero points, their search, and the ranges of converters."""
