#pragma once

/// @file
/// @brief Queries with the steps of a group of key codes folded in, and the scan under them. The
/// format of the codes is that of `digest/key_codes.hpp`.

#include <kvfreeze/element.hpp>
#include <kvfreeze/host/kernels/simd.hpp>
#include <kvfreeze/host/kernels/tile.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace kvfreeze::host::inline KVFREEZE_ISA {

/// What turns the integer products of one group and head into logits.
struct alignas(16) FoldScale {
  float unit;        ///< of the weights
  float base;        ///< the logit of code -1/2 everywhere
  std::int32_t sum;  ///< of the weights
};

/// @brief Folded queries in memory of the caller's: int8 weights [group][head][padded(dim)] and
/// scales [group][head].
struct FoldedQueries {
  std::int8_t* weights = nullptr;
  FoldScale* scales = nullptr;
  int heads = 0;
  int dim = 0;
  int line = 0;  ///< bytes from head to head; 0: padded(dim)

  [[nodiscard]] int line_bytes() const noexcept { return line != 0 ? line : padded(dim); }

  /// Weights of one group and head; those from `dim` on are zero.
  static KVFREEZE_HD constexpr int padded(int dim) noexcept { return (dim + 63) / 64 * 64; }

  static constexpr std::size_t weight_bytes(int groups, int heads, int dim) noexcept {
    return static_cast<std::size_t>(groups) * static_cast<std::size_t>(heads) *
           static_cast<std::size_t>(padded(dim));
  }

  static constexpr std::size_t scale_bytes(int groups, int heads) noexcept {
    return static_cast<std::size_t>(groups) * static_cast<std::size_t>(heads) * sizeof(FoldScale);
  }

  [[nodiscard]] std::int8_t* weights_of(std::size_t group, int head) const noexcept {
    return weights + index(group, head) * static_cast<std::size_t>(line_bytes());
  }

  [[nodiscard]] FoldScale& scale_of(std::size_t group, int head) const noexcept {
    return scales[index(group, head)];
  }

 private:
  [[nodiscard]] std::size_t index(std::size_t group, int head) const noexcept {
    return group * static_cast<std::size_t>(heads) + static_cast<std::size_t>(head);
  }
};

namespace kernels {

/// Bytes of one plane over 64 rows.
template <int Bits>
KVFREEZE_HD constexpr std::size_t plane_bytes(int dim) noexcept {
  return static_cast<std::size_t>(dim) * 8U * Bits;
}

/// Each byte of a dword.
KVFREEZE_HD constexpr std::int32_t four_bytes(std::uint32_t byte) noexcept {
  return static_cast<std::int32_t>(0x01010101U * byte);
}

/// f(get, c) for the sixteens of channels; `get` loads them, a last eight with zeros above.
template <class F>
[[gnu::always_inline]] inline void for_channels(int dim, F const& f) noexcept {
  int c = 0;
  KVFREEZE_UNROLL
  for (; c + 16 <= dim; c += 16) {
    f([](auto const* p) { return load(p); }, c);
  }
  if (c < dim) {
    f([](auto const* p) { return load8(p); }, c);
  }
}

/// What the channels of one group add up to under up to four heads.
struct FoldSums {
  F32x16 highest[4] = {splat(0.0F), splat(0.0F), splat(0.0F), splat(0.0F)};  ///< of magnitudes
  F32x16 total[4] = {splat(0.0F), splat(0.0F), splat(0.0F), splat(0.0F)};    ///< of query * center

  void add(int head, F32x16 weight, F32x16 query, F32x16 center) noexcept {
    highest[head] = max(abs(weight), highest[head]);
    total[head] = fma(query, center, total[head]);
  }
};

/// @brief Units and bases of up to four heads of one group: quad h is about head h.
class FoldUnits {
 public:
  explicit FoldUnits(FoldSums const& channels) noexcept
      : base_(sums(channels.total[0], channels.total[1], channels.total[2], channels.total[3])) {
    F32x16 const most =
        largest(channels.highest[0], channels.highest[1], channels.highest[2], channels.highest[3]);
    // One division for both ways: lane 0 the unit, the others its inverse.
    Mask16 const is_unit = less(load(first), splat(0));
    quotients_ = div(select(is_unit, most, splat(127.0F)), select(is_unit, splat(127.0F), most));
    inverses_ = select(less(splat(0x1p-100F), most), quotients_, splat(0.0F));
  }

  [[nodiscard]] F32x16 inverse(int head) const noexcept {
    return lookup(inverses_, splat(4 * head + 1));
  }

  /// @param count sums of the weights, lane by lane
  template <int Heads>
  void store_scales(I32x16 const (&count)[4], FoldScale* scales) const noexcept {
    // One dword of each quad makes a FoldScale.
    static_assert(sizeof(FoldScale) == 16);
    I32x16 const together =
        either(either(both(as_ints(quotients_), load(first)), both(as_ints(base_), load(second))),
               both(sums(count[0], count[1], count[2], count[3]), load(third)));
    std::int32_t lanes[16];
    store(lanes, together);
    std::memcpy(scales, lanes, Heads * sizeof(FoldScale));
  }

 private:
  static constexpr std::int32_t first[16] = {-1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0};
  static constexpr std::int32_t second[16] = {0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0};
  static constexpr std::int32_t third[16] = {0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0, 0, 0, -1, 0};

  F32x16 base_;
  F32x16 quotients_;
  F32x16 inverses_;
};

/// Stores 64 weights times `inverse` as bytes. @return their sum, lane by lane, added to `count`
inline I32x16 store_weights(F32x16 const (&weights)[4], F32x16 inverse, std::int8_t* out,
                            I32x16 count) noexcept {
  I32x16 const bytes =
      pack_bytes(rounded(mul(weights[0], inverse)), rounded(mul(weights[1], inverse)),
                 rounded(mul(weights[2], inverse)), rounded(mul(weights[3], inverse)));
  store_line(out, bytes);
  return dot_bytes<1>(count, splat(four_bytes(1)), bytes);
}

/// Up to four heads of one group: one pass over minima and steps, and reductions in common.
template <int Heads, int Dim>
void fold_heads(float const* q, int dynamic_dim, Half const* minima, Half const* steps,
                std::int8_t* weights, FoldScale* scales) noexcept {
  int const dim = Dim != 0 ? Dim : dynamic_dim;
  int const padded = FoldedQueries::padded(dim);
  constexpr bool in_registers = Dim == 64;  // otherwise the products are made a second time
  F32x16 folded[Heads][4];
  FoldSums channels;
  for_channels(dim, [&](auto const get, int c) {
    F32x16 const width = get(steps + c);
    F32x16 const center = fma(width, splat(0.5F), get(minima + c));
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      F32x16 const query = get(q + h * dim + c);
      F32x16 const weight = mul(query, width);
      channels.add(h, weight, query, center);
      if constexpr (in_registers) {
        folded[h][c / 16] = weight;
      }
    }
  });
  FoldUnits const fold(channels);
  I32x16 count[4] = {splat(0), splat(0), splat(0), splat(0)};
  if constexpr (in_registers) {
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      count[h] = store_weights(folded[h], fold.inverse(h), weights + h * padded, count[h]);
    }
  } else {
    for_channels(dim, [&](auto const get, int c) {
      F32x16 const width = get(steps + c);
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        I32x16 const weight = rounded(mul(mul(get(q + h * dim + c), width), fold.inverse(h)));
        store_bytes(weights + h * padded + c, weight);
        count[h] = add(count[h], weight);
      }
    });
    for (int c = (dim + 15) / 16 * 16; c < padded; c += 16) {
      for (int h = 0; h < Heads; ++h) {
        std::memset(weights + h * padded + c, 0, 16);
      }
    }
  }
  fold.store_scales<Heads>(count, scales);
}

/// Adds codes * weights of one plane over 64 rows to sums[h][block]; `weights` of the heads lie
/// `stride` apart.
template <int Bits, int Heads>
[[gnu::always_inline]] inline void scan_plane(std::byte const* plane, std::int8_t const* weights,
                                              int stride, int dim,
                                              I32x16 (&sums)[Heads][4]) noexcept {
  constexpr int fields = 8 / Bits;
  constexpr int lines = fields < 4 ? 4 / fields : 1;  // of one or two channel quads
  constexpr int quads = fields * lines / 4;
  for (int first = 0; first < dim / 4; first += quads) {
    KVFREEZE_UNROLL
    for (int l = 0; l < lines; ++l) {
      I32x16 line = load_line(plane);
      plane += 64;
      KVFREEZE_UNROLL
      for (int f = 0; f < fields; ++f) {
        int const place = l * fields + f;
        I32x16 const codes = both(line, splat(four_bytes((1U << Bits) - 1U)));
        if constexpr (Bits < 8) {
          line = shift_right<Bits>(line);
        }
        KVFREEZE_UNROLL
        for (int h = 0; h < Heads; ++h) {
          std::int32_t four;
          std::memcpy(&four, weights + h * stride + 4 * (first + place / 4), sizeof four);
          I32x16& total = sums[h][place % 4];
          total = dot_bytes<(1 << Bits) - 1>(total, codes, splat(four));
        }
      }
    }
  }
}

/// @brief The same from zero where the fields of a byte are of one channel quad, and whole bytes
/// are multiplied as quickly as codes.
///
/// Fields are not shifted down. With all fields below field f masked off, a byte is the codes of
/// fields f, f + 1, ... times powers of two: the difference of two such products, shifted, is the
/// product of one field. Exact, for half the work on the codes.
template <int Bits, int Heads>
[[gnu::always_inline]] inline void scan_whole_bytes(std::byte const* plane,
                                                    std::int8_t const* weights, int stride, int dim,
                                                    I32x16 (&sums)[Heads][4]) noexcept {
  constexpr int fields = 8 / Bits;
  constexpr int lines = 4 / fields;  // of one channel quad
  KVFREEZE_UNROLL
  for (auto& head : sums) {
    KVFREEZE_UNROLL
    for (auto& x : head) {
      x = splat(0);
    }
  }
  // Two quads at a time, at least once: g++ copies all sums where a loop may not run.
  std::int8_t const* const end = weights + dim;
  do {
    KVFREEZE_UNROLL
    for (int quad = 0; quad < 2; ++quad) {
      I32x16 four[Heads];
      KVFREEZE_UNROLL
      for (int h = 0; h < Heads; ++h) {
        std::int32_t bytes;
        std::memcpy(&bytes, weights + h * stride + 4 * quad, sizeof bytes);
        four[h] = splat(bytes);
      }
      KVFREEZE_UNROLL
      for (int l = 0; l < lines; ++l) {
        I32x16 const line = load_line(plane + 64 * (lines * quad + l));
        KVFREEZE_UNROLL
        for (int f = 0; f < fields; ++f) {
          I32x16 const codes =
              f == 0 ? line : both(line, splat(four_bytes(0xFFU << (Bits * f) & 0xFFU)));
          KVFREEZE_UNROLL
          for (int h = 0; h < Heads; ++h) {
            I32x16& total = sums[h][l * fields + f];
            total = dot_bytes<255>(total, codes, four[h]);
          }
        }
      }
    }
    plane += 128 * lines;
    weights += 8;
  } while (weights != end);
  KVFREEZE_UNROLL
  for (auto& head : sums) {
    KVFREEZE_UNROLL
    for (int l = 0; l < lines; ++l) {
      I32x16* const x = head + l * fields;
      if constexpr (fields == 4) {
        x[0] = sub(x[0], x[1]);
        x[1] = shift_right_signed<2>(sub(x[1], x[2]));
        x[2] = shift_right_signed<4>(sub(x[2], x[3]));
        x[3] = shift_right_signed<6>(x[3]);
      } else {
        x[0] = sub(x[0], x[1]);
        x[1] = shift_right_signed<4>(x[1]);
      }
    }
  }
}

template <int Bits, int Heads>
void scan_heads(FoldedQueries const& folded, int group, int first_head, std::byte const* planes,
                int group_rows, float* logits, std::ptrdiff_t stride) noexcept {
  constexpr int upper = Bits == 3 ? 2 : Bits;  // bits of the first plane
  int const dim = folded.dim;
  int const line = folded.line_bytes();
  auto const at = static_cast<std::size_t>(group);
  std::int8_t const* const weights = folded.weights_of(at, first_head);
  FoldScale const* const scales = &folded.scale_of(at, first_head);
  for (int begin = 0; begin < group_rows; begin += 64) {
    I32x16 sums[Heads][4];
    if constexpr (dots_whole_bytes && (upper == 2 || upper == 4)) {
      scan_whole_bytes<upper>(planes, weights, line, dim, sums);
    } else {
      KVFREEZE_UNROLL
      for (auto& head : sums) {
        KVFREEZE_UNROLL
        for (auto& x : head) {
          x = splat(0);
        }
      }
      scan_plane<upper>(planes, weights, line, dim, sums);
    }
    if constexpr (Bits == 3) {
      KVFREEZE_UNROLL
      for (auto& head : sums) {
        KVFREEZE_UNROLL
        for (auto& x : head) {
          x = shift_left<1>(x);
        }
      }
      scan_plane<1>(planes + plane_bytes<2>(dim), weights, line, dim, sums);
    }
    planes += plane_bytes<Bits>(dim);
    KVFREEZE_UNROLL
    for (int h = 0; h < Heads; ++h) {
      F32x16 const unit = splat(scales[h].unit);
      F32x16 const base = splat(scales[h].base);
      KVFREEZE_UNROLL
      for (int b = 0; b < 4; ++b) {
        store(logits + (first_head + h) * stride + begin + 16 * b,
              fma(to_floats(sums[h][b]), unit, base));
      }
    }
  }
}

/// f(heads) with the number of heads as a constant.
template <class F>
void with_heads(int heads, F const& f) noexcept {
  switch (heads) {
    case 1:
      return f(std::integral_constant<int, 1>{});
    case 2:
      return f(std::integral_constant<int, 2>{});
    case 3:
      return f(std::integral_constant<int, 3>{});
    default:
      return f(std::integral_constant<int, 4>{});
  }
}

}  // namespace kernels

/// @brief Folds a group's steps into the queries: entry `group` of `out`.
///
/// A weight is q * step in the unit that makes the head's largest 127, rounded to nearest even.
/// @param q [heads][dim], dim a multiple of 8
/// @param minima, steps [dim]
/// @complexity O(heads * dim)
inline void fold_queries(float const* q, int heads, int dim, Half const* minima, Half const* steps,
                         FoldedQueries const& out, int group) noexcept {
  auto const at = static_cast<std::size_t>(group);
  for (int first = 0; first < heads; first += head_group) {
    kernels::with_constants(
        std::min(head_group, heads - first), dim, [&](auto heads_c, auto dim_c) {
          kernels::fold_heads<heads_c(), dim_c()>(q + static_cast<std::ptrdiff_t>(first) * dim, dim,
                                                  minima, steps, out.weights_of(at, first),
                                                  &out.scale_of(at, first));
        });
  }
}

/// @brief logits[h * stride + row] of one group, estimated from its codes.
///
/// Products of codes and weights are exact int32; one multiply-add turns them into a logit.
/// @param planes of the group's `group_rows` rows, a multiple of 64
/// @complexity O(group_rows * heads * dim)
template <int Bits>
void scan_folded(FoldedQueries const& folded, int group, std::byte const* planes, int group_rows,
                 float* logits, std::ptrdiff_t stride) noexcept {
  for (int first = 0; first < folded.heads; first += head_group) {
    kernels::with_heads(std::min(head_group, folded.heads - first), [&](auto heads_c) {
      kernels::scan_heads<Bits, heads_c()>(folded, group, first, planes, group_rows, logits,
                                           stride);
    });
  }
}

}  // namespace kvfreeze::host::inline KVFREEZE_ISA
