namespace cimq::kernels { void starter() {} }
