#pragma once

/// @file
/// @brief Queries folded into one group of key codes, by a warp: int8 weights for matrix products,
/// and the unit and base that turn the products into logits. The device's `fold_queries` and
/// `fold_nested`, to the bit.

#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/global_memory.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr unsigned whole_warp = 0xFFFFFFFFU;
inline constexpr int scan_heads = 8;  ///< heads of one pass: the columns of a matrix product

KVFREEZE_HD constexpr int rounded_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

/// @brief Floats from head to head of queries in shared memory.
///
/// The half-warps read the same channels of neighbouring heads: 16 banks apart.
KVFREEZE_HD constexpr int query_line(int dim) { return rounded_up(dim, 32) + 16; }

/// @brief Copies queries to shared memory, by a block: `lines` heads and channels up to the next
/// multiple of 16, zeros for those that there are not.
__device__ inline void stage_queries(float const* queries, int heads, int lines, int dim,
                                     float* shared) {
  int const lane = static_cast<int>(threadIdx.x % 32);
  int const warps = static_cast<int>(blockDim.x / 32);
  for (int head = static_cast<int>(warp_index()); head < lines; head += warps) {
#pragma unroll 1
    for (int c = 4 * lane; c < rounded_up(dim, 16); c += 128) {  // mostly once
      *reinterpret_cast<float4*>(shared + head * query_line(dim) + c) =
          head < heads && c < dim ? load_quad(queries + head * dim + c)
                                  : float4{0.0F, 0.0F, 0.0F, 0.0F};
    }
  }
}

/// What the queries are multiplied by in one channel of a group.
struct alignas(8) FoldedChannel {
  float width;   ///< of which a channel's largest weight is made
  float center;  ///< the middle of the codes
};

/// @brief One warp's shared memory for a group: what its channels stand for, and weights.
struct FoldStorage {
  FoldedChannel* channels;  ///< [dim up to 16], zeros behind the last
  float* widths;            ///< [dim], once more, for quads of them
  std::uint32_t* weights;   ///< [scan_heads][weight_words], four channels each
  float* unit;              ///< [scan_heads]
  float* base;              ///< [scan_heads]
  float* inverse;           ///< [scan_heads], of unit
  std::uint16_t* list;      ///< [quads], where the quads of the codes come from, if not in order
  std::uint8_t* planes;     ///< [dim / 4], of the channel quads of nested codes

  /// @brief Words from head to head: eight quads are read by half-warps without bank conflicts.
  static KVFREEZE_HD constexpr int weight_words(int quads) { return rounded_up(quads, 32) + 8; }

  static KVFREEZE_HD constexpr int bytes(int dim, int quads) {
    return 12 * rounded_up(dim, 16) + 4 * scan_heads * (weight_words(quads) + 3) +
           rounded_up(2 * quads, 16) + rounded_up(dim / 4, 16);
  }

  __device__ FoldStorage(std::byte* memory, int dim, int quads)
      : channels(reinterpret_cast<FoldedChannel*>(memory)),
        widths(reinterpret_cast<float*>(channels + rounded_up(dim, 16))),
        weights(reinterpret_cast<std::uint32_t*>(widths + rounded_up(dim, 16))),
        unit(reinterpret_cast<float*>(weights + scan_heads * weight_words(quads))),
        base(unit + scan_heads),
        inverse(base + scan_heads),
        list(reinterpret_cast<std::uint16_t*>(inverse + scan_heads)),
        planes(reinterpret_cast<std::uint8_t*>(list) + rounded_up(2 * quads, 16)) {}

  __device__ void store(int c, float4 width, float4 center) const {
    auto* const two = reinterpret_cast<float4*>(channels + c);
    two[0] = {width.x, center.x, width.y, center.y};
    two[1] = {width.z, center.z, width.w, center.w};
    *reinterpret_cast<float4*>(widths + c) = width;
  }
};

/// The low byte of the integer nearest to x * factor, at most 127, to even.
__device__ inline unsigned rounded_byte(float x, float factor) {
  return __float_as_uint(__fmaf_rn(x, factor, 0x1.8p23F));
}

/// @brief Four weights times a power of two as integers, a byte each.
///
/// The host scales before it rounds the product with `inverse`; by a power of two that is the same
/// but for products too small to make anything but 0.
__device__ inline std::uint32_t pack_weights(float4 w, float factor) {
  unsigned const low = __byte_perm(rounded_byte(w.x, factor), rounded_byte(w.y, factor), 0x0040);
  unsigned const high = __byte_perm(rounded_byte(w.z, factor), rounded_byte(w.w, factor), 0x0040);
  return __byte_perm(low, high, 0x5410);
}

__device__ inline float4 product(float4 a, float4 b) {
  return {__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y), __fmul_rn(a.z, b.z), __fmul_rn(a.w, b.w)};
}

__device__ inline float4 product(float4 a, float b) { return product(a, float4{b, b, b, b}); }

/// a * b + c, each channel rounded once.
__device__ inline float4 fused_product(float4 a, float b, float4 c) {
  return {__fmaf_rn(a.x, b, c.x), __fmaf_rn(a.y, b, c.y), __fmaf_rn(a.z, b, c.z),
          __fmaf_rn(a.w, b, c.w)};
}

/// 4^n for exponents of normal floats.
__device__ inline float power_of_four(int n) {
  return __uint_as_float(static_cast<unsigned>(127 + 2 * n) << 23);
}

/// The power of two by which a cell of the screen is wider than a quarter of the range.
__device__ inline float cell_factor(int planes) { return power_of_four(1 - planes); }

/// Four scales of a digest, which no kernel writes that reads them.
__device__ inline uint2 load_scale_bits(Half const* scales) {
  return __ldg(reinterpret_cast<uint2 const*>(scales));
}

__device__ inline float4 load_scales(Half const* scales) {
  return widened_quad<Half>(load_scale_bits(scales));
}

/// The quarters of a channel quad, and its number of planes.
__device__ inline float4 load_quarters(Half const* quarters, int& planes) {
  uint2 const bits = load_scale_bits(quarters);
  planes = host::planes_of(Half{static_cast<std::uint16_t>(bits.x)});
  return widened_quad<Half>(bits);
}

/// @brief How a digest's groups are folded and read: as planes of codes of channel quads.
///
/// - `plane_bits`: of a code in the first plane; `low_bits`: of one in the second, or 0.
/// - `quads(dim)`: of codes, an even number; `chunk_bytes(dim)`: of the codes of 64 rows.
/// - `prepare(storage, group, dim, lane)`: fills in channels, widths and list.
/// - `quad(storage, i)`: the channel quad of quad i of the codes; `factor(storage, i)`: of its
///   weights.
template <class Digest>
struct FoldOf;

template <int Bits, int Group>
struct FoldOf<KeyCodes<Bits, Group>> {
  static constexpr int plane_bits = Bits == 3 ? 2 : Bits;
  static constexpr int low_bits = Bits == 3 ? 1 : 0;

  static KVFREEZE_HD constexpr int quads(int dim) { return dim / 4; }

  static KVFREEZE_HD constexpr std::size_t chunk_bytes(int dim) {
    return host::kernels::plane_bytes<Bits>(dim);
  }

  static __device__ void prepare(FoldStorage const& storage, std::byte const* group, int dim,
                                 int lane) {
    Half const* const minima = KeyCodes<Bits, Group>::scales(group, dim);
    for (int c = 4 * lane; c < rounded_up(dim, 16); c += 128) {
      float4 width{0.0F, 0.0F, 0.0F, 0.0F};
      float4 center = width;
      if (c < dim) {
        width = load_scales(minima + dim + c);
        center = fused_product(width, 0.5F, load_scales(minima + c));
      }
      storage.store(c, width, center);
    }
  }

  static __device__ int quad(FoldStorage const&, int i) { return i; }

  static __device__ float factor(FoldStorage const&, int) { return 1.0F; }
};

template <int Screen, int Total, int Group>
struct FoldOf<NestedKeyCodes<Screen, Total, Group>> {
  using Digest = NestedKeyCodes<Screen, Total, Group>;

  static constexpr int plane_bits = 2;
  static constexpr int low_bits = 0;

  static KVFREEZE_HD constexpr int quads(int dim) { return Digest::units(dim); }

  static KVFREEZE_HD constexpr std::size_t chunk_bytes(int dim) {
    return std::size_t{64} * static_cast<std::size_t>(Digest::units(dim));
  }

  /// A channel without planes weighs four quarters, its whole range; others a quarter at most.
  static __device__ void prepare(FoldStorage const& storage, std::byte const* group, int dim,
                                 int lane) {
    host::NestedCodes const codes = Digest::codes(group, dim);
    unsigned const below = (1U << lane) - 1U;
    int before = 0;  // units of the quads of earlier rounds
    for (int c = 4 * lane; c < rounded_up(dim, 128); c += 128) {
      int planes = 0;
      float4 widest{0.0F, 0.0F, 0.0F, 0.0F};
      float4 center = widest;
      if (c < dim) {
        float4 const quarter = load_quarters(codes.quarters + c, planes);
        float4 const cell = product(quarter, cell_factor(planes));
        widest = planes == 0 ? cell : quarter;
        center = fused_product(cell, 0.5F, load_scales(codes.origins + c));
        storage.planes[c / 4] = static_cast<std::uint8_t>(planes);
      }
      if (c < rounded_up(dim, 16)) {
        storage.store(c, widest, center);
      }
      unsigned const ones = __ballot_sync(whole_warp, (planes & 1) != 0);
      unsigned const twos = __ballot_sync(whole_warp, (planes & 2) != 0);
      std::uint16_t* const list =
          storage.list + before + __popc(ones & below) + 2 * __popc(twos & below);
#pragma unroll
      for (int plane = 0; plane < host::most_planes; ++plane) {
        if (plane < planes) {
          list[plane] = static_cast<std::uint16_t>(c + plane);
        }
      }
      before += __popc(ones) + 2 * __popc(twos);
    }
  }

  static __device__ int quad(FoldStorage const& storage, int i) { return storage.list[i] / 4; }

  /// What a digit of the quad's plane weighs beside one of its first.
  static __device__ float factor(FoldStorage const& storage, int i) {
    return power_of_four(-(storage.list[i] % 4));
  }
};

/// @brief Adds up over 16 or 32 lanes, for `Count` values at once: half of them change places at
/// each of the first steps, so that in the end lane i has value i / (Lanes / Count).
///
/// Over 16 lanes that is the canonical tree: lanes i and i + 8, then i + 4, i + 2, i + 1.
template <int Lanes, int Count, class Op>
__device__ float reduce(float (&value)[Count], int lane, Op const& op) {
#pragma unroll
  for (int offset = Lanes / 2, count = Count; offset > 0; offset /= 2) {
    if (count > 1) {
      count /= 2;
      bool const upper = (lane & offset) != 0;
#pragma unroll
      for (int i = 0; i < Count / 2; ++i) {
        if (i < count) {
          float const kept = upper ? value[i + count] : value[i];
          float const sent = upper ? value[i] : value[i + count];
          value[i] = op(kept, __shfl_xor_sync(whole_warp, sent, offset));
        }
      }
    } else {
      value[0] = op(value[0], __shfl_xor_sync(whole_warp, value[0], offset));
    }
  }
  return value[0];
}

/// @brief Units and bases of 2 * Pairs heads from what the channels stand for: a half-warp for each
/// head of a pair, in the canonical order of dot products.
/// @param q as stage_queries() fills it, 2 * Pairs lines
template <int Pairs>
__device__ void fold_heads(FoldStorage const& storage, float const* q, int dim, int lane) {
  int const half = lane / 16;
  int const i = lane % 16;
  int const channels = rounded_up(dim, 16);
  int const pair_line = 2 * query_line(dim);
  float const* query = q + half * query_line(dim) + i;
  FoldedChannel const* channel = storage.channels + i;
  float most[Pairs] = {};
  float total[Pairs] = {};
#pragma unroll 4
  for (int c = 0; c < channels; c += 16) {
    FoldedChannel const here = channel[c];
#pragma unroll
    for (int p = 0; p < Pairs; ++p) {
      float const x = query[p * pair_line + c];
      most[p] = fmaxf(most[p], fabsf(__fmul_rn(x, here.width)));
      total[p] = __fmaf_rn(x, here.center, total[p]);
    }
  }
  float const highest = reduce<16>(most, lane, [](float a, float b) { return fmaxf(a, b); });
  float const base = reduce<16>(total, lane, [](float a, float b) { return __fadd_rn(a, b); });
  constexpr int lanes = 16 / Pairs;  // that have the same
  int const h = i / lanes * 2 + half;
  // One division for both ways: the first of the lanes has the unit, the second its inverse.
  bool const is_unit = i % lanes == 0;
  float const quotient = __fdiv_rn(is_unit ? highest : 127.0F, is_unit ? 127.0F : highest);
  if (is_unit) {
    storage.unit[h] = quotient;
    storage.base[h] = base;
  } else if (i % lanes == 1) {
    storage.inverse[h] = highest > 0x1p-100F ? quotient : 0.0F;
  }
}

/// @brief Weights of a channel quad under heads `first`, `first + step` and so on.
/// @param q the quad's, of head 0
/// @param factor a power of two
/// @param out of head 0; `line` words from head to head
__device__ inline void fold_quad(FoldStorage const& storage, float const* q, float const* widths,
                                 float factor, int heads, int dim, int first, int step,
                                 std::uint32_t* out, int line) {
  float4 const width = load_quad(widths);
  for (int h = first; h < heads; h += step) {
    float4 const weight = product(load_quad(q + h * query_line(dim)), width);
    out[h * line] = pack_weights(product(weight, storage.inverse[h]), factor);
  }
}

/// Weights of the quads [begin, end) are 0.
__device__ inline void clear_quads(std::uint32_t* weights, int line, int begin, int end, int heads,
                                   int lane) {
#pragma unroll 1
  for (int i = lane; begin < end && i < heads * (end - begin); i += 32) {
    weights[i / (end - begin) * line + begin + i % (end - begin)] = 0;
  }
}

/// @brief Weights of all quads of the codes under all heads; zero up to the next eight quads.
template <class Fold>
__device__ void fold_weights(FoldStorage const& storage, float const* q, int heads, int dim,
                             int lane) {
  int const quads = Fold::quads(dim);
  int const padded = rounded_up(quads, 8);
  int const row = padded <= 8 ? 8 : padded <= 16 ? 16 : 32;  // lanes of a head
  int const line = FoldStorage::weight_words(quads);
#pragma unroll 1
  for (int i = lane % row; i < quads; i += row) {  // mostly once
    int const c = 4 * Fold::quad(storage, i);
    fold_quad(storage, q + c, storage.widths + c, Fold::factor(storage, i), heads, dim, lane / row,
              32 / row, storage.weights + i, line);
  }
  clear_quads(storage.weights, line, quads, padded, heads, lane);
}

}  // namespace kvfreeze::gpu::detail
