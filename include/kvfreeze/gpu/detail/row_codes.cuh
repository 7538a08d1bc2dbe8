#pragma once

/// @file
/// @brief Codes of one row: V in 2, 4 or 8 bits and the lower bits of its key, made and read by
/// half a warp. The bytes of the host's `encode_values` and `encode_key_residual`.
///
/// Lane l of a half-warp has channels l, l + 16, l + 32 and l + 48 of each 64, as the codes do:
/// what it makes is a byte, a word or a dword of the code.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/host/kernels/key_residuals.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kvfreeze::gpu::detail {

// The device cannot read the host's arrays, but constants made of their elements.
template <int Bits, int Code>
inline constexpr float value_level =
    host::ValueLevels<Bits>::levels[static_cast<std::size_t>(Code)];

template <int Bits, int Code>
inline constexpr float threshold_below =
    host::kernels::thresholds_below<Bits>[static_cast<std::size_t>(Code)];

/// @brief Levels and thresholds of V codes by code, as tables in shared memory: 16 floats lie in 16
/// banks, so that lanes may ask for any of them at once.
/// @tparam Bits 2 or 4; 8 bits need no tables
template <int Bits>
struct ValueTables {
  float level[16];
  float below[16];  ///< the threshold below each code

  /// By any 16 or more threads of a block, before a barrier.
  __device__ void fill(int thread) {
    fill_entries(thread, std::make_integer_sequence<int, 1 << Bits>{});
  }

 private:
  template <int... Code>
  __device__ void fill_entries(int thread, std::integer_sequence<int, Code...>) {
    (fill_entry<Code>(thread), ...);
  }

  template <int Code>
  __device__ void fill_entry(int thread) {
    if (thread == Code) {
      level[Code] = value_level<Bits, Code>;
      below[Code] = threshold_below<Bits, Code>;
    }
  }
};

template <>
struct ValueTables<8> {
  __device__ void fill(int) {}
};

/// The code of a number in units of the scale.
template <int Bits>
__device__ int nearest_code(ValueTables<Bits> const& tables, float x) {
  int code = 0;
#pragma unroll
  for (int bit = (1 << Bits) / 2; bit > 0; bit /= 2) {
    int const higher = code | bit;
    code = tables.below[higher] < x ? higher : code;
  }
  return code;
}

template <>
__device__ inline int nearest_code<8>(ValueTables<8> const&, float x) {
  return __float2int_rn(fmaxf(fminf(x, 127.0F), -127.0F));
}

/// @brief What four channels' codes stand for, in units of the scale.
/// @param codes of the row
/// @param block of 64 channels
/// @param lane of the half-warp, whose channels are 64 block + lane + 16 v
template <int Bits>
__device__ void decode_levels(ValueTables<Bits> const& tables, std::byte const* codes, int block,
                              int lane, float (&level)[4]) {
  std::byte const* const p =
      codes + host::value_code_bytes<Bits>(64) * static_cast<unsigned>(block);
  if constexpr (Bits == 8) {
    auto const word = reinterpret_cast<int const*>(p)[lane];
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      level[v] = __int2float_rn(static_cast<std::int8_t>(word >> (8 * v)));
    }
  } else {
    unsigned word = 0;
    if constexpr (Bits == 4) {
      word = reinterpret_cast<std::uint16_t const*>(p)[lane];
    } else {
      word = reinterpret_cast<std::uint8_t const*>(p)[lane];
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      level[v] = tables.level[(word >> (Bits * v)) & ((1U << Bits) - 1U)];
    }
  }
}

/// Sums where the channel's bit is clear, differences where it is set.
template <int Distance>
__device__ float butterfly(float x, int lane) {
  float const other = __shfl_xor_sync(0xFFFFFFFFU, x, Distance);
  return __fmaf_rn(x, (lane & Distance) != 0 ? -1.0F : 1.0F, other);
}

__device__ inline void butterfly(float& a, float& b) {
  float const first = a;
  a = __fadd_rn(first, b);
  b = __fsub_rn(first, b);
}

/// @brief The Hadamard rotation of up to 64 channels, of which lane l of a half-warp has l + 16 v:
/// host::rotate. All lanes of the warp call together.
/// @param channels from the first one on; those from there on, and a last eight, stay as they are
__device__ inline void rotate_64(float (&x)[4], int channels, int lane) {
  int const vectors = channels >= 64 ? 4 : channels / 16;  // that are rotated
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    if (v < vectors) {
      x[v] = butterfly<8>(butterfly<4>(butterfly<2>(butterfly<1>(x[v], lane), lane), lane), lane);
    }
  }
  if (vectors >= 2) {
    butterfly(x[0], x[1]);
  }
  if (vectors == 4) {
    butterfly(x[2], x[3]);
    butterfly(x[0], x[2]);
    butterfly(x[1], x[3]);
  }
  // Blocks of 64, of 32 and of 16 channels.
#pragma unroll
  for (int v = 0; v < 4; ++v) {
    float const scale = vectors == 4            ? 0.125F
                        : vectors >= 2 && v < 2 ? 0.17677669529663687F
                                                : 0.25F;
    x[v] = v < vectors ? __fmul_rn(x[v], scale) : x[v];
  }
}

/// @brief Codes a row of values.
/// @tparam Blocks of 64 channels, at least as many as there are
/// @param value value(c): the row's channel c, less the mean
/// @param codes value_code_bytes<Bits>(dim) bytes, aligned to 4
/// @param lane of the half-warp; both halves of a warp call together
/// @return the scale, the same on all lanes of the half-warp
template <int Bits, int Blocks, class Value>
__device__ BFloat16 encode_values(ValueTables<Bits> const& tables, Value const& value, int dim,
                                  std::byte* codes, int lane) {
  float x[Blocks][4];
  float highest = 0.0F;
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      int const c = 64 * b + 16 * v + lane;
      x[b][v] = c < dim ? value(c) : 0.0F;
    }
    if (64 * b < dim) {
      rotate_64(x[b], dim - 64 * b, lane);
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      highest = fmaxf(highest, fabsf(x[b][v]));
    }
  }
#pragma unroll
  for (int offset = 8; offset > 0; offset /= 2) {
    highest = fmaxf(highest, __shfl_xor_sync(0xFFFFFFFFU, highest, offset));
  }
  constexpr float largest_bfloat = 0x1.FEp127F;
  float const exact = Bits == 8 ? __fdiv_rn(highest, 127.0F) : highest;
  BFloat16 scale = from_float<BFloat16>(fminf(exact, largest_bfloat));
  if (to_float(scale) < 0x1p-126F) {  // its inverse could be infinite
    scale = {};
  }
  float const inverse = scale.bits == 0 ? 0.0F : __frcp_rn(to_float(scale));
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    if (64 * b < dim) {
      unsigned word = 0;
#pragma unroll
      for (int v = 0; v < 4; ++v) {
        auto const code =
            static_cast<unsigned>(nearest_code<Bits>(tables, __fmul_rn(x[b][v], inverse)));
        word |= (code & ((1U << Bits) - 1U)) << (Bits * v);
      }
      std::byte* const p = codes + host::value_code_bytes<Bits>(64) * static_cast<unsigned>(b);
      if constexpr (Bits == 2) {
        reinterpret_cast<std::uint8_t*>(p)[lane] = static_cast<std::uint8_t>(word);
      } else if constexpr (Bits == 4) {
        reinterpret_cast<std::uint16_t*>(p)[lane] = static_cast<std::uint16_t>(word);
      } else {
        reinterpret_cast<std::uint32_t*>(p)[lane] = word;
      }
    }
  }
  return scale;
}

/// @brief The bits of one key that follow the screen's: host::encode_key_residual, by half a warp.
/// @param key key(c): the row's channel c
/// @param out residual_bytes<Residual>(dim)
template <int Residual, class Key>
__device__ void encode_residual(Key const& key, host::NestedCodes const& codes, std::byte* out,
                                int lane) {
  for (int first = 0; first < codes.dim; first += 64) {
    unsigned part[4];
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      int const c = first + 16 * v + lane;
      part[v] = 0;
      if (c < codes.dim) {
        float const quarter = widened(codes.quarters[c]);
        int const planes = host::planes_of(codes.quarters, c / 4);
        // Times a power of two: the screen's quotient to the bit, but for the binary point.
        float const cells = static_cast<float>(1 << (2 * planes + Residual));
        float const inverse =
            quarter > 0.0F ? __fmul_rn(__frcp_rn(quarter), __fmul_rn(cells, 0.25F)) : 0.0F;
        float const exact = __fmul_rn(__fsub_rn(key(c), widened(codes.origins[c])), inverse);
        float const code = fminf(fmaxf(exact, 0.0F), __fsub_rn(cells, 1.0F));
        part[v] = __float2uint_rz(code) & ((1U << Residual) - 1U);
      }
    }
    if constexpr (Residual == 2) {
      reinterpret_cast<std::uint8_t*>(out)[lane] =
          static_cast<std::uint8_t>(part[0] | part[1] << 2 | part[2] << 4 | part[3] << 6);
    } else {
      reinterpret_cast<std::uint8_t*>(out)[lane] =
          static_cast<std::uint8_t>(part[0] | part[2] << 4);
      reinterpret_cast<std::uint8_t*>(out)[16 + lane] =
          static_cast<std::uint8_t>(part[1] | part[3] << 4);
    }
    out += host::residual_bytes<Residual>(64);
  }
}

}  // namespace kvfreeze::gpu::detail
