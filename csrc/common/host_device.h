// Scalar formulas are written once for host and device: functions marked CIMQ_HOST_DEVICE compile in both.
#pragma once

#if defined(__CUDACC__)
#define CIMQ_HOST_DEVICE __host__ __device__
#else
#define CIMQ_HOST_DEVICE
#endif
