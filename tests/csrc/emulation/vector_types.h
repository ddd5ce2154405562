// The vector types of CUDA, with its sizes and alignments.
#pragma once

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  constexpr dim3(unsigned x_of = 1, unsigned y_of = 1, unsigned z_of = 1) : x(x_of), y(y_of), z(z_of) {}
};

struct uint3 {
  unsigned x, y, z;
};

#define CIMQ_EMULATED_VECTORS(name, element)                                                           \
  struct alignas(2 * sizeof(element)) name##2 { element x, y; };                                       \
  struct alignas(4 * sizeof(element) > 16 ? 16 : 4 * sizeof(element)) name##4 { element x, y, z, w; }; \
  inline name##2 make_##name##2(element x, element y) { return {x, y}; }                               \
  inline name##4 make_##name##4(element x, element y, element z, element w) { return {x, y, z, w}; }

CIMQ_EMULATED_VECTORS(char, signed char)
CIMQ_EMULATED_VECTORS(uchar, unsigned char)
CIMQ_EMULATED_VECTORS(short, short)
CIMQ_EMULATED_VECTORS(ushort, unsigned short)
CIMQ_EMULATED_VECTORS(int, int)
CIMQ_EMULATED_VECTORS(uint, unsigned)
CIMQ_EMULATED_VECTORS(float, float)
CIMQ_EMULATED_VECTORS(longlong, long long)
CIMQ_EMULATED_VECTORS(ulonglong, unsigned long long)
CIMQ_EMULATED_VECTORS(double, double)

#undef CIMQ_EMULATED_VECTORS
