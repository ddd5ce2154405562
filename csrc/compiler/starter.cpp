namespace cimq::compiler { void starter() {} }
