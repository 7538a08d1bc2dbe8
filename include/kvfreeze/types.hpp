#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze {

/// No limit, for the byte limits below.
inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

/// The attention geometry of a model.
struct Shape {
  int layers = 0;       ///< transformer layers, >= 1
  int query_heads = 0;  ///< query heads, a multiple of kv_heads
  int kv_heads = 0;     ///< key/value heads, >= 1
  int head_dim = 0;     ///< elements of a head, a multiple of 8 in [8, 512]
  float scale = 0.0F;   ///< factor of q.k before the softmax; 0 means 1/sqrt(head_dim)
};

/// What the cache may use and what it must keep.
struct Limits {
  int max_tokens = 4096;  ///< rows of one sequence, in [1, 2^24]; address space only, not memory
  int max_sequences = 8;  ///< sequences open at a time, in [1, 65536]; address space only
  std::size_t resident_bytes = unlimited;  ///< hard cap on everything outside the tier
  std::size_t transfer_bytes = unlimited;  ///< bytes to and from the tier, per sequence and step
  int sinks = 4;                           ///< first rows, always exact
  int window = 32;                         ///< last rows, always exact
  int parts = 1;  ///< the largest Part::count that the caller will use, in [1, 256]
};

/// One thread's share of a layer's lanes. Calls with the same count and different indices touch
/// different lanes and may run at the same time.
struct Part {
  int index = 0;
  int count = 1;
};

/// Handle of an open sequence. Stale handles are recognised.
struct Sequence {
  std::uint32_t index = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t generation = 0;

  friend constexpr bool operator==(Sequence, Sequence) = default;
};

/// Half-open range of token positions.
struct TokenRange {
  int begin = 0;
  int end = 0;

  friend constexpr bool operator==(TokenRange, TokenRange) = default;
};

/// How much of a row is resident (design: the ladder).
enum class Fidelity : std::uint8_t {
  exact,    ///< K and V, attended
  compact,  ///< key digest and V code, attended through them
  frozen,   ///< key digest only; not attended, its mass is estimated at each step
  asleep,   ///< frozen, and not even estimated until its wake step
  evicted,  ///< gone (discarding tiers only)
};

/// Who owns an active set.
enum class Grouping : std::uint8_t {
  kv_head,  ///< a lane for each (sequence, layer, KV head)
  layer,    ///< a lane for each (sequence, layer): all its KV heads freeze the same tokens
};

/// How hard a trigger asks the cache to thaw (ASR-KF-EGR, section 3.6).
enum class Recovery : std::uint8_t {
  none,
  soft,    ///< SR: thaw the rows whose sleep was longer than one period
  window,  ///< WR: thaw the rows frozen in the last N steps
  full,    ///< FR: thaw everything, clear all timers
  rewalk,  ///< RR: FR, then forget the last tokens; the engine decodes them again
};

}  // namespace kvfreeze
