#pragma once

/// @file
/// @brief Estimated logits of one digest group, by a warp. The bits of the digests' own `scan`.

#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/gpu/detail/warp_fold.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief 16 rows by 32 unsigned bytes times 32 signed bytes by 8 heads, added to `sums`.
__device__ inline void multiply_codes(int4& sums, uint4 codes, uint2 weights) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(sums.x), "+r"(sums.y), "+r"(sums.z), "+r"(sums.w)
      : "r"(codes.x), "r"(codes.y), "r"(codes.z), "r"(codes.w), "r"(weights.x), "r"(weights.y));
}

/// @brief Lines of a plane as a lane's operands of matrix products: eight channel quads of 64 rows.
///
/// Products take rows of a block of 16 and quads in any order. So lane 4 g + t has rows 2 g and
/// 2 g + 1, which lie side by side, of quads 2 t and 2 t + 1, whose lines do: a warp's load is 256
/// bytes without a gap.
template <int Bits>
struct PlaneLines {
  static constexpr std::uint32_t mask = 0x01010101U * ((1U << Bits) - 1U);

  uint2 line[Bits];  ///< of a pair of quads

  /// Behind the last of the quads it is the last once more: weights are 0 there.
  __device__ void load(std::byte const* plane, int first_quad, int quads, int lane) {
    int const quad = min(first_quad + 2 * (lane % 4), quads - 2);
    auto const* const p =
        reinterpret_cast<uint2 const*>(plane + quad / 2 * (64 * Bits) + lane / 4 * 8);
#pragma unroll
    for (int i = 0; i < Bits; ++i) {
      line[i] = __ldg(p + 8 * i);
    }
  }

  /// Codes of the rows of one block.
  [[nodiscard]] __device__ uint4 codes(int block) const {
    host::kernels::FieldPlace<Bits> const first(0, block);
    host::kernels::FieldPlace<Bits> const second(1, block);
    return {(line[first.line].x >> first.shift) & mask, (line[first.line].y >> first.shift) & mask,
            (line[second.line].x >> second.shift) & mask,
            (line[second.line].y >> second.shift) & mask};
  }
};

/// A lane's weights under all quads of its column's head, from its own two of eight on: the second
/// operands of matrix products. Columns behind the last head have its weights too; nobody reads
/// their sums.
__device__ inline std::uint32_t const* column_weights(std::uint32_t const* weights, int words,
                                                      int heads, int lane) {
  return weights + min(lane / 4, heads - 1) * words + lane % 4 * 2;
}

__device__ inline uint2 two_words(std::uint32_t const* p) {
  return *reinterpret_cast<uint2 const*>(p);
}

/// Adds the products of the codes of 64 rows with the weights; `ahead` has the first lines.
template <int Bits, int Ahead>
__device__ void multiply_plane(int4 (&sums)[4], PlaneLines<Bits> (&ahead)[Ahead],
                               std::byte const* plane, std::uint32_t const* weights, int words,
                               int quads, int heads, int lane) {
  std::uint32_t const* const own = column_weights(weights, words, heads, lane);
  for (int first = 0; first < quads; first += 8 * Ahead) {
    if (first > 0) {
#pragma unroll
      for (int i = 0; i < Ahead; ++i) {
        ahead[i].load(plane, first + 8 * i, quads, lane);
      }
    }
#pragma unroll
    for (int i = 0; i < Ahead; ++i) {
      if (first + 8 * i < quads) {
        uint2 const w = two_words(own + first + 8 * i);
#pragma unroll
        for (int block = 0; block < 4; ++block) {
          multiply_codes(sums[block], ahead[i].codes(block), w);
        }
      }
    }
  }
}

/// May pairs of logits be stored at once?
__device__ inline bool pairs_are_aligned(float const* logits, std::ptrdiff_t stride) {
  return (reinterpret_cast<std::uintptr_t>(logits) | static_cast<std::uintptr_t>(4 * stride)) % 8 ==
         0;
}

/// @brief What is noted of a scan's logits beside storing them: nothing.
///
/// A thread's note is told of each group by `group(row, head)`, its first row and head. Of 64 rows
/// of the group, from one on, it is told in advance by `look(row)`; then the whole warp calls
/// `decide()`, and `pair(slot, block, a, b)` gives logits of rows 16 * block + 2 * g and the next
/// of the 64, where g is threadIdx.x % 32 / 4. Then the whole warp calls `folded(storage, q, heads,
/// dim)`, while the storage has the group. Or `one(slot, row, logit)` gives logits of the group's
/// rows one by one, and the whole warp calls `whole(logits, stride, heads)`. `close<Scan>(head,
/// some)` ends a pass over groups under `some` heads from one on.
struct NoScanNote {
  __device__ void group(std::uint32_t, int) {}

  __device__ void look(int) {}

  __device__ void decide() {}

  __device__ void pair(int, int, float, float) {}

  __device__ void folded(FoldStorage const&, float const*, int, int) {}

  __device__ void one(int, int, float) {}

  __device__ void whole(float const*, std::ptrdiff_t, int) {}

  template <class Scan>
  __device__ void close(int, int) {}
};

inline constexpr int most_scan_slots = 4;

/// @brief Scans groups of a digest, each by a warp.
///
/// - `bytes(dim)`: shared memory of a warp, a multiple of 16.
/// - `scan<Pairs>(memory, q, heads, dim, group, logits, stride, note)`: logits[h * stride + row] of
///   a group under up to 2 * Pairs heads, 1, 2 or 4 pairs; `q` is shared memory as stage_queries()
///   fills it, a line for every head of a pair.
/// - `head_of(slot)`: the thread's heads, each of which has a slot in [0, most_scan_slots) of the
///   note.
template <class Digest>
struct WarpScan;

/// Digests of codes: folded queries, then products of integers.
template <class Digest>
struct CodeScan {
  using Fold = FoldOf<Digest>;

  static KVFREEZE_HD constexpr int bytes(int dim) {
    return FoldStorage::bytes(dim, Fold::quads(dim));
  }

  static __device__ int head_of(int slot) {
    return slot < 2 ? static_cast<int>(threadIdx.x % 4) * 2 + slot : 8;
  }

  template <int Pairs, class Note>
  static __device__ void scan(std::byte* memory, float const* q, int heads, int dim,
                              std::byte const* group, float* logits, std::ptrdiff_t stride,
                              Note& note) {
    constexpr int bits = Fold::plane_bits;
    constexpr int low = Fold::low_bits == 0 ? 1 : Fold::low_bits;
    constexpr int ahead = bits <= 2 ? 2 : 1;
    int const lane = static_cast<int>(threadIdx.x % 32);
    int const quads = Fold::quads(dim);
    int const words = FoldStorage::weight_words(quads);
    FoldStorage const storage(memory, dim, quads);
    PlaneLines<bits> lines[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {  // on their way while the queries are folded
      lines[i].load(group, 8 * i, quads, lane);
    }
    __syncwarp();  // the group before is done with the memory
    Fold::prepare(storage, group, dim, lane);
    __syncwarp();
    fold_heads<Pairs>(storage, q, dim, lane);
    __syncwarp();
    fold_weights<Fold>(storage, q, heads, dim, lane);
    __syncwarp();
    bool const aligned = pairs_are_aligned(logits, stride);
    for (int begin = 0; begin < Digest::group_rows; begin += 64) {
      std::byte const* const plane =
          group + Fold::chunk_bytes(dim) * static_cast<std::size_t>(begin / 64);
      if (begin > 0) {
#pragma unroll
        for (int i = 0; i < ahead; ++i) {
          lines[i].load(plane, 8 * i, quads, lane);
        }
      }
      note.look(begin);
      int4 sums[4] = {};
      multiply_plane<bits>(sums, lines, plane, storage.weights, words, quads, heads, lane);
      if constexpr (Fold::low_bits != 0) {
#pragma unroll
        for (int4& s : sums) {
          s = {2 * s.x, 2 * s.y, 2 * s.z, 2 * s.w};
        }
        std::byte const* const last = plane + host::kernels::plane_bytes<bits>(dim);
        PlaneLines<low> low_lines[2];
        low_lines[0].load(last, 0, quads, lane);
        low_lines[1].load(last, 8, quads, lane);
        multiply_plane<low>(sums, low_lines, last, storage.weights, words, quads, heads, lane);
      }
      note.decide();
      float* const out = logits + begin + lane / 4 * 2;
      auto const for_pairs = [&](auto const& store) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          int const h = lane % 4 * 2 + i;
          if (h < heads) {
            float const unit = storage.unit[h];
            float const base = storage.base[h];
#pragma unroll
            for (int block = 0; block < 4; ++block) {
              int const first = i == 0 ? sums[block].x : sums[block].y;
              int const second = i == 0 ? sums[block].z : sums[block].w;
              float const a = __fmaf_rn(__int2float_rn(first), unit, base);
              float const b = __fmaf_rn(__int2float_rn(second), unit, base);
              store(out + static_cast<std::uint32_t>(h) * stride + 16 * block, a, b);
              note.pair(i, block, a, b);
            }
          }
        }
      };
      if (aligned) {
        for_pairs([](float* p, float a, float b) {
          asm volatile("st.global.v2.f32 [%0], {%1, %2};"  // never in two pieces
                       :
                       : "l"(__cvta_generic_to_global(p)), "f"(a), "f"(b)
                       : "memory");
        });
      } else {
        for_pairs([](float* p, float a, float b) {
          p[0] = a;
          p[1] = b;
        });
      }
      note.folded(storage, q, heads, dim);
    }
  }
};

template <int Bits, int Group>
struct WarpScan<KeyCodes<Bits, Group>> : CodeScan<KeyCodes<Bits, Group>> {};

template <int Screen, int Total, int Group>
struct WarpScan<NestedKeyCodes<Screen, Total, Group>>
    : CodeScan<NestedKeyCodes<Screen, Total, Group>> {};

/// @brief Digests of `Vectors` vectors of Half, of which all rows of a group get one estimate.
/// @tparam Estimate has `add(q, x)`, a channel's step, x its elements of all vectors, and
///   `logit(sum)`, where `sum` adds up over 16 lanes in the canonical order
template <class Digest, int Vectors, class Estimate>
struct VectorScan {
  static KVFREEZE_HD constexpr int bytes(int dim) { return 4 * Vectors * rounded_up(dim, 16); }

  static __device__ int head_of(int slot) {
    return 2 * slot + static_cast<int>(threadIdx.x % 32 / 16);
  }

  template <int Pairs, class Note>
  static __device__ void scan(std::byte* memory, float const* q, int heads, int dim,
                              std::byte const* group, float* logits, std::ptrdiff_t stride,
                              Note& note) {
    int const lane = static_cast<int>(threadIdx.x % 32);
    int const half = lane / 16;
    int const i = lane % 16;
    int const channels = rounded_up(dim, 16);
    auto* const vectors = reinterpret_cast<float*>(memory);
    auto const* const halves = reinterpret_cast<Half const*>(group);
    __syncwarp();  // the group before is done with the memory
#pragma unroll
    for (int v = 0; v < Vectors; ++v) {
      for (int c = 4 * lane; c < channels; c += 128) {
        *reinterpret_cast<float4*>(vectors + v * channels + c) =
            c < dim ? load_scales(halves + v * dim + c) : float4{0.0F, 0.0F, 0.0F, 0.0F};
      }
    }
    __syncwarp();
    float const* const query = q + half * query_line(dim) + i;
    Estimate estimate[Pairs];
#pragma unroll 4
    for (int c = 0; c < channels; c += 16) {
      float x[Vectors];
#pragma unroll
      for (int v = 0; v < Vectors; ++v) {
        x[v] = vectors[v * channels + c + i];
      }
#pragma unroll
      for (int p = 0; p < Pairs; ++p) {
        estimate[p].add(query[2 * p * query_line(dim) + c], x);
      }
    }
#pragma unroll
    for (int p = 0; p < Pairs; ++p) {
      float const logit = estimate[p].logit([](float x) {
        float one[1] = {x};
        return reduce<16>(one, 0, [](float a, float b) { return __fadd_rn(a, b); });
      });
      int const h = 2 * p + half;
      for (int row = i; row < Digest::group_rows && h < heads; row += 16) {
        logits[h * stride + row] = logit;
        note.one(p, row, logit);
      }
    }
    note.whole(logits, stride, heads);
  }
};

/// q . mean.
struct MeanEstimate {
  float total = 0.0F;

  __device__ void add(float q, float const (&x)[1]) { total = __fmaf_rn(q, x[0], total); }

  template <class Sum>
  __device__ float logit(Sum const& sum) const {
    return sum(total);
  }
};

/// The sum of the larger of q low and q high.
struct BoxEstimate {
  float total = 0.0F;

  __device__ void add(float q, float const (&x)[2]) {
    total = __fmaf_rn(q, q < 0.0F ? x[0] : x[1], total);
  }

  template <class Sum>
  __device__ float logit(Sum const& sum) const {
    return sum(total);
  }
};

/// Halfway between the two.
struct CuboidEstimate {
  float mean = 0.0F;
  float bound = 0.0F;

  __device__ void add(float q, float const (&x)[3]) {
    mean = __fmaf_rn(q, x[0], mean);
    bound = __fmaf_rn(q, q < 0.0F ? x[1] : x[2], bound);
  }

  template <class Sum>
  __device__ float logit(Sum const& sum) const {
    return __fmul_rn(__fadd_rn(sum(bound), sum(mean)), 0.5F);
  }
};

template <int Rows>
struct WarpScan<MeanKeyDigest<Rows>> : VectorScan<MeanKeyDigest<Rows>, 1, MeanEstimate> {};

template <int Rows>
struct WarpScan<BoxDigest<Rows>> : VectorScan<BoxDigest<Rows>, 2, BoxEstimate> {};

template <int Rows>
struct WarpScan<CuboidDigest<Rows>> : VectorScan<CuboidDigest<Rows>, 3, CuboidEstimate> {};

}  // namespace kvfreeze::gpu::detail
