#pragma once

/// @file
/// @brief Sixteen lanes of float, int32 or double: AVX-512, AVX2 or plain C++ behind one interface.
///
/// Equal inputs give equal bits in every version. Three rules keep it so: sums have one order,
/// every multiply-add is an explicit `fma`, and the result of `mul` is never an operand of `add` or
/// `sub`, where a compiler may fuse the two.
///
/// - `load`, `load8` (upper lanes zero), `load_first` (n of 16, the others filled): float, int32;
///   `load` and `load8` also widen Half and BFloat16. `store`, `store8`, `store_first`;
///   `store_rounded` narrows to Half; `store_bytes`, `store_words` keep the low bits. `load_bytes`
///   and `load_words` widen unsigned integers; `load_repeated_quad` and `load_repeated_half` have
///   16 bytes four times, 32 twice; `load_quads` takes 16 bytes from each of four places.
/// - `max(a, b)` is `a > b ? a : b`, `min` alike; integer lanes wrap; `shift_right` is logical.
/// - `lookup(table, index)` is table[index % 16]; a quad is four lanes: `splat_quad<q>` repeats
///   one; `evens(a, b)` has in each quad lanes 0 and 2 of a's and b's quads, `odds` lanes 1 and 3.
/// - `pack_bytes` makes four vectors 64 signed bytes in order, saturated; `load_line` and
///   `store_line` move 64 bytes.
/// - `rounded` is to nearest even, `truncated` towards zero.
/// - `dot_bytes<MaxCode>(sum, codes, weights)`: each lane adds four products of unsigned codes
///   (at most MaxCode) and signed weights (at least -127).
/// - `sum`, `largest`: the canonical tree, lanes i and i + 8, then i + 4, i + 2, i + 1.
/// - `reduce_to_quads` and `reduce_quads` are its first and last two levels for four vectors at a
///   time: with r[t] = reduce_to_quads(v[t], v[t+4], v[t+8], v[t+12]), lane i of
///   reduce_quads(r[0], r[1], r[2], r[3]) is sum(v[i]).
/// - `add_pairs<Small>(a, b)` is evens + odds; Small says that all lanes of a and b fit in 16 bits.
/// - `sums(a, b, c, d)` has sum(a) in quad 0, sum(b) in quad 1 and so on; `largest` alike.

#include <kvfreeze/host/kernels/simd_avx2.hpp>
#include <kvfreeze/host/kernels/simd_avx512.hpp>
#include <kvfreeze/host/kernels/simd_portable.hpp>

namespace kvfreeze::host::inline KVFREEZE_ISA {

inline constexpr int lane_count = 16;

/// Asks for the cache line of p. Never faults. Functions that only prefetch must end with
/// `end_prefetch()`.
#if defined(__GNUC__)
[[gnu::always_inline]] inline void prefetch(void const* p) noexcept { __builtin_prefetch(p); }

/// GCC 12 takes a function that only prefetches for one without effect and drops its calls.
[[gnu::always_inline]] inline void end_prefetch() noexcept { asm volatile(""); }
#else
inline void prefetch(void const*) noexcept {}

inline void end_prefetch() noexcept {}
#endif

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
