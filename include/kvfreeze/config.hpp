#pragma once

/// @file
/// @brief The library's macros, beside those of `host/kernels/isa.hpp` that name instruction sets.

#include <cassert>

/// Marks a function that runs on the host and, compiled by nvcc, on the device too.
#ifdef __CUDACC__
#define KVFREEZE_HD __host__ __device__
#else
#define KVFREEZE_HD
#endif

/// Checks an internal invariant in debug builds. Never used for a caller's mistakes: those throw.
#define KVFREEZE_ASSERT(condition) assert(condition)
