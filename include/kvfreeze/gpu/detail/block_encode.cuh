#pragma once

/// @file
/// @brief Digest groups made of keys, each by a block. The bytes of the digests' own `encode`.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/digest/none.hpp>
#include <kvfreeze/element.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Four channels of a row's key: at once where the keys can give them so.
template <class Keys>
__device__ float4 key_quad(Keys const& keys, int row, int quad) {
  if constexpr (requires { keys.quad(row, quad); }) {
    return keys.quad(row, quad);
  } else {
    return {keys(row, 4 * quad), keys(row, 4 * quad + 1), keys(row, 4 * quad + 2),
            keys(row, 4 * quad + 3)};
  }
}

/// @brief How a channel's keys become codes: cells are counted from `origin`, 1 / `inverse` wide.
struct ChannelCode {
  float origin;
  float inverse;
};

/// 1 / step, or 0 for a step of 0.
__device__ inline float inverse_step(float step) { return step > 0.0F ? __frcp_rn(step) : 0.0F; }

__device__ inline unsigned code_of(float key, float origin, float inverse, float highest) {
  float const exact = __fmul_rn(__fsub_rn(key, origin), inverse);
  return __float2uint_rz(fminf(fmaxf(exact, 0.0F), highest));
}

/// Codes of four channels of a key, a byte each.
__device__ inline std::uint32_t code_quad(float4 key, float4 origin, float4 inverse,
                                          float highest) {
  return code_of(key.x, origin.x, inverse.x, highest) |
         code_of(key.y, origin.y, inverse.y, highest) << 8 |
         code_of(key.z, origin.z, inverse.z, highest) << 16 |
         code_of(key.w, origin.w, inverse.w, highest) << 24;
}

/// @brief Codes of a channel quad in 16 of 64 rows: four neighbours of each block of 16, a byte
/// for each channel.
struct QuadCodes {
  std::uint32_t of[4][4];  ///< [block][row]

  template <class Keys>
  __device__ QuadCodes(Keys const& keys, int first_row, int quad, float4 origin, float4 inverse,
                       float highest) {
#pragma unroll
    for (int block = 0; block < 4; ++block) {
#pragma unroll
      for (int row = 0; row < 4; ++row) {
        of[block][row] =
            code_quad(key_quad(keys, first_row + 16 * block + row, quad), origin, inverse, highest);
      }
    }
  }
};

/// @brief Lines of a plane of `Bits` as they are filled: of one channel quad, or of as many as
/// share a line, in four neighbouring rows of each block.
template <int Bits>
struct PlaneWords {
  static constexpr int quads = Bits == 1 ? 2 : 1;
  static constexpr int lines = quads * Bits / 2;
  static constexpr std::uint32_t mask = 0x01010101U * ((1U << Bits) - 1U);

  std::uint32_t word[lines][4] = {};

  /// @param quad of `quads`
  /// @param shift the fields are these bits of the codes and up
  __device__ void put(QuadCodes const& codes, int quad, int shift) {
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      host::kernels::FieldPlace<Bits> const place(quad, block);
#pragma unroll
      for (int row = 0; row < 4; ++row) {
        word[place.line][row] |= ((codes.of[block][row] >> shift) & mask) << place.shift;
      }
    }
  }

  /// @param line the first line of the quads
  __device__ void store(std::byte* line, int first_row) const {
#pragma unroll
    for (int i = 0; i < lines; ++i) {
      *reinterpret_cast<uint4*>(line + 64 * i + 4 * first_row) = {word[i][0], word[i][1],
                                                                  word[i][2], word[i][3]};
    }
  }
};

/// @brief Makes digest groups of keys, each by a block of `Threads`, which call together.
///
/// - `Storage`: shared memory of the block.
/// - `encode<Threads>(storage, keys, importance, dim, group)`: `keys(row, channel)` is a float, for
///   which `keys.quad(row, quad)` may give four channels at once; `importance` is [dim], the sums
///   of the queries' squares by channel, which count only if one is positive, or null; `group` is
///   aligned to 16. The storage may be used again after a barrier.
template <class Digest>
struct Encoder;

/// Can the device make it?
template <class Digest>
concept HasEncoder = requires { sizeof(Encoder<Digest>); };

/// There is nothing to make.
template <>
struct Encoder<NoDigest> {
  struct Storage {};
};

template <int Bits, int Group>
struct Encoder<KeyCodes<Bits, Group>> {
  struct Storage {
    alignas(16) float origin[host::kernels::max_head_dim];
    alignas(16) float inverse[host::kernels::max_head_dim];
  };

  template <int Threads, class Keys>
  static __device__ void encode(Storage& storage, Keys const& keys, float const*, int dim,
                                std::byte* group) {
    constexpr auto highest_code = static_cast<float>((1 << Bits) - 1);
    constexpr float largest_half = 65504.0F;
    int const thread = static_cast<int>(threadIdx.x);
    Half* const minima = KeyCodes<Bits, Group>::scales(group, dim);
    for (int c = thread; c < dim; c += Threads) {
      float low = keys(0, c);
      float high = low;
#pragma unroll 8
      for (int row = 1; row < Group; ++row) {
        float const k = keys(row, c);
        low = k < low ? k : low;
        high = k > high ? k : high;
      }
      float const step = __fmul_rn(__fsub_rn(high, low), 1.0F / highest_code);
      low = __fmaf_rn(step, -0.5F, low);
      Half const origin = host::kernels::clamped_half(low);
      Half const width = from_float<Half>(fmaxf(fminf(step, largest_half), 0.0F));
      minima[c] = origin;
      minima[dim + c] = width;
      storage.origin[c] = to_float(origin);
      storage.inverse[c] = inverse_step(to_float(width));
    }
    __syncthreads();
    constexpr int quads = Bits == 3 ? 2 : 1;  // of a task
    int const tasks = dim / (4 * quads);
    for (int i = thread; i < Group / 64 * 4 * tasks; i += Threads) {
      int const first = i % tasks * quads;
      int const row = i / tasks % 4 * 4;
      int const chunk = i / tasks / 4;
      std::byte* const plane =
          group + host::kernels::plane_bytes<Bits>(dim) * static_cast<std::size_t>(chunk);
      auto const codes = [&](int quad) {
        return QuadCodes(keys, 64 * chunk + row, quad,
                         *reinterpret_cast<float4 const*>(storage.origin + 4 * quad),
                         *reinterpret_cast<float4 const*>(storage.inverse + 4 * quad),
                         highest_code);
      };
      if constexpr (Bits == 3) {
        PlaneWords<1> low;
#pragma unroll
        for (int q = 0; q < quads; ++q) {
          QuadCodes const three = codes(first + q);
          PlaneWords<2> high;
          high.put(three, 0, 1);
          high.store(plane + 64 * (first + q), row);
          low.put(three, q, 0);
        }
        low.store(plane + host::kernels::plane_bytes<2>(dim) + 64 * (first / 2), row);
      } else {
        PlaneWords<Bits> words;
        words.put(codes(first), 0, 0);
        words.store(plane + 64 * PlaneWords<Bits>::lines * first, row);
      }
    }
  }
};

template <int Screen, int Total, int Group>
struct Encoder<NestedKeyCodes<Screen, Total, Group>> {
  using Digest = NestedKeyCodes<Screen, Total, Group>;

  static constexpr int most_quads = host::kernels::max_head_dim / 4;

  struct Storage {
    alignas(16) float low[host::kernels::max_head_dim];   ///< then the origin
    alignas(16) float high[host::kernels::max_head_dim];  ///< then the inverse of a finest cell
    float mean[host::kernels::max_head_dim];
    float error[most_quads];
    std::uint16_t first_unit[most_quads];
    std::uint8_t planes[most_quads];
  };

  template <int Threads, class Keys>
  static __device__ void encode(Storage& storage, Keys const& keys, float const* importance,
                                int dim, std::byte* group) {
    int const thread = static_cast<int>(threadIdx.x);
    host::MutableNestedCodes const out = Digest::codes(group, dim);
    bool known = false;
    for (int c = thread; c < dim; c += Threads) {
      note_range(storage, keys, c);
      known = known || (importance != nullptr && importance[c] > 0.0F);
    }
    known = __syncthreads_or(known ? 1 : 0) != 0;
    for (int quad = thread; quad < dim / 4; quad += Threads) {
      float error = 0.0F;
      for (int c = 4 * quad; c < 4 * quad + 4; ++c) {
        float const range = __fsub_rn(storage.high[c], storage.low[c]);
        float const weight = known ? kvfreeze::detail::smaller(importance[c], 1e20F) : 1.0F;
        error = __fmaf_rn(__fmul_rn(range, range), weight, error);
      }
      storage.error[quad] = error;
    }
    __syncthreads();
    if (thread < 32) {
      give_planes(storage, dim / 4, out.units, thread);
    }
    __syncthreads();
    for (int c = thread; c < dim; c += Threads) {
      int const planes = storage.planes[c / 4];
      Half origin;
      Half quarter;
      host::kernels::choose_scale(storage.low[c], storage.high[c], storage.mean[c],
                                  static_cast<float>(1 << (2 * planes + Total - Screen)), planes,
                                  c % 4 == 0, origin, quarter);
      out.origins[c] = origin;
      out.quarters[c] = quarter;
      storage.low[c] = to_float(origin);
      // Sixteen finest cells to a quarter: three digits.
      storage.high[c] = __fmul_rn(inverse_step(to_float(quarter)), 16.0F);
    }
    __syncthreads();
    int const quads = dim / 4;
    for (int i = thread; i < Group / 64 * 4 * quads; i += Threads) {
      int const quad = i % quads;
      int const row = i / quads % 4 * 4;
      int const chunk = i / quads / 4;
      int const planes = storage.planes[quad];
      if (planes == 0) {
        continue;
      }
      QuadCodes const codes(keys, 64 * chunk + row, quad,
                            *reinterpret_cast<float4 const*>(storage.low + 4 * quad),
                            *reinterpret_cast<float4 const*>(storage.high + 4 * quad), 63.0F);
      std::byte* const lines =
          out.planes + std::ptrdiff_t{64} * (chunk * out.units + storage.first_unit[quad]);
      for (int plane = 0; plane < planes; ++plane) {
        PlaneWords<2> words;
        words.put(codes, 0, 4 - 2 * plane);
        words.store(lines + 64 * plane, row);
      }
    }
  }

 private:
  /// Least, largest and mean key of a channel, within what Half holds.
  template <class Keys>
  static __device__ void note_range(Storage& storage, Keys const& keys, int c) {
    constexpr float limit = 60000.0F;
    float least = 0.0F;
    float most = 0.0F;
    float total = 0.0F;
#pragma unroll 8
    for (int row = 0; row < Group; ++row) {
      float const k = fmaxf(fminf(keys(row, c), limit), -limit);
      least = row == 0 || k < least ? k : least;
      most = row == 0 || k > most ? k : most;
      total = __fmaf_rn(k, 1.0F / static_cast<float>(Group), total);
    }
    float const mean = total < most ? total : most;
    storage.low[c] = least;
    storage.high[c] = most;
    storage.mean[c] = mean > least ? mean : least;
  }

  /// @brief Gives out planes one by one, by a warp. @see host::kernels::give_planes
  ///
  /// Errors are not negative: their bits are in order.
  static __device__ void give_planes(Storage& storage, int quads, int units, int lane) {
    constexpr int rounds = most_quads / 32;
    unsigned key[rounds];  // of an error, and 0 where no plane can be given
    int planes[rounds];
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      int const quad = 32 * i + lane;
      planes[i] = 0;
      key[i] = quad < quads ? __float_as_uint(storage.error[quad]) + 1 : 0;
    }
    for (int unit = 0; unit < units; ++unit) {
      unsigned highest = 0;
#pragma unroll
      for (int i = 0; i < rounds; ++i) {
        highest = max(highest, key[i]);
      }
      highest = __reduce_max_sync(0xFFFFFFFFU, highest);
      bool given = false;
#pragma unroll
      for (int i = 0; i < rounds; ++i) {
        unsigned const those = __ballot_sync(0xFFFFFFFFU, key[i] == highest);
        if (!given && those != 0 && lane == __ffs(static_cast<int>(those)) - 1) {
          planes[i] += 1;
          float const error = __fmul_rn(__uint_as_float(key[i] - 1), 1.0F / 16.0F);
          key[i] = planes[i] < host::most_planes ? __float_as_uint(error) + 1 : 0;
        }
        given = given || those != 0;
      }
    }
    unsigned const below = (1U << lane) - 1U;
    int before = 0;
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      unsigned const ones = __ballot_sync(0xFFFFFFFFU, (planes[i] & 1) != 0);
      unsigned const twos = __ballot_sync(0xFFFFFFFFU, (planes[i] & 2) != 0);
      if (32 * i + lane < quads) {
        storage.planes[32 * i + lane] = static_cast<std::uint8_t>(planes[i]);
        storage.first_unit[32 * i + lane] =
            static_cast<std::uint16_t>(before + __popc(ones & below) + 2 * __popc(twos & below));
      }
      before += __popc(ones) + 2 * __popc(twos);
    }
  }
};

/// Digests of statistics by channel: a thread for each.
struct NoStorage {};

/// The smallest and largest of a channel, rounded outwards.
template <int Rows, class Keys>
__device__ void encode_bounds(Keys const& keys, int c, Half& low, Half& high) {
  float least = keys(0, c);
  float most = least;
#pragma unroll 8
  for (int row = 1; row < Rows; ++row) {
    float const k = keys(row, c);
    least = k < least ? k : least;
    most = most < k ? k : most;
  }
  low = host::kernels::half_at_most(least);
  high = host::kernels::half_at_least(most);
}

/// The mean of a channel: the sum in row order, divided.
template <int Rows, class Keys>
__device__ Half encode_mean(Keys const& keys, int c) {
  float total = 0.0F;
#pragma unroll 8
  for (int row = 0; row < Rows; ++row) {
    total = __fadd_rn(total, keys(row, c));
  }
  return host::kernels::clamped_half(__fdiv_rn(total, static_cast<float>(Rows)));
}

template <int Rows>
struct Encoder<BoxDigest<Rows>> {
  using Storage = NoStorage;

  template <int Threads, class Keys>
  static __device__ void encode(Storage&, Keys const& keys, float const*, int dim,
                                std::byte* group) {
    auto* const low = reinterpret_cast<Half*>(group);
    for (int c = static_cast<int>(threadIdx.x); c < dim; c += Threads) {
      encode_bounds<Rows>(keys, c, low[c], low[dim + c]);
    }
  }
};

template <int Rows>
struct Encoder<CuboidDigest<Rows>> {
  using Storage = NoStorage;

  template <int Threads, class Keys>
  static __device__ void encode(Storage&, Keys const& keys, float const*, int dim,
                                std::byte* group) {
    auto* const mean = reinterpret_cast<Half*>(group);
    for (int c = static_cast<int>(threadIdx.x); c < dim; c += Threads) {
      mean[c] = encode_mean<Rows>(keys, c);
      encode_bounds<Rows>(keys, c, mean[dim + c], mean[2 * dim + c]);
    }
  }
};

template <int Rows>
struct Encoder<MeanKeyDigest<Rows>> {
  using Storage = NoStorage;

  template <int Threads, class Keys>
  static __device__ void encode(Storage&, Keys const& keys, float const*, int dim,
                                std::byte* group) {
    auto* const mean = reinterpret_cast<Half*>(group);
    for (int c = static_cast<int>(threadIdx.x); c < dim; c += Threads) {
      mean[c] = encode_mean<Rows>(keys, c);
    }
  }
};

}  // namespace kvfreeze::gpu::detail
