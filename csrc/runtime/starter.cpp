namespace cimq::runtime { void starter() {} }
