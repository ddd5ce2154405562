namespace cimq::agent { void starter() {} }
