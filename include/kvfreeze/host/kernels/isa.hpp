#pragma once

/// @file
/// @brief Which instructions the translation unit may use.
///
/// Vector code lives in an inline namespace named after the instruction set, so that translation
/// units built with different flags may be linked: they hold different functions, not different
/// definitions of one function. All of them give the same bits.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define KVFREEZE_ISA avx512
#define KVFREEZE_ISA_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define KVFREEZE_ISA avx2
#define KVFREEZE_ISA_AVX2 1
#else
#define KVFREEZE_ISA portable
#define KVFREEZE_ISA_PORTABLE 1
#endif

/// Before a loop over registers: unrolled at every optimisation level. g++ does so by itself only
/// from -O3 on, and keeps the registers in memory otherwise: attention takes 2.5 times as long.
/// The portable version has arrays for registers, and of such a loop g++ 12 loses what it stores
/// with -O1. nvcc does not know the pragma.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__) && \
    !defined(KVFREEZE_ISA_PORTABLE)
#define KVFREEZE_UNROLL _Pragma("GCC unroll 16")
#else
#define KVFREEZE_UNROLL
#endif

namespace kvfreeze::host::inline KVFREEZE_ISA {

#if defined(KVFREEZE_ISA_AVX512)
inline constexpr char const* isa_name = "avx512";
#elif defined(KVFREEZE_ISA_AVX2)
inline constexpr char const* isa_name = "avx2";
#else
inline constexpr char const* isa_name = "portable";
#endif

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
