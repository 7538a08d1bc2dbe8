#pragma once

/// @file
/// @brief Digests that hold keys as they are, or some of their channels: made by a block, scanned
/// by a warp. The bits of the digests' own `encode` and `scan`.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/digest/exact_keys.hpp>
#include <kvfreeze/digest/partial_keys.hpp>
#include <kvfreeze/gpu/detail/block_encode.cuh>
#include <kvfreeze/gpu/detail/warp_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

template <>
struct Encoder<ExactKeys> {
  using Storage = NoStorage;

  template <int Threads, class Keys>
  static __device__ void encode(Storage&, Keys const& keys, float const*, int dim,
                                std::byte* group) {
    auto* const out = reinterpret_cast<Half*>(group);
    for (int i = static_cast<int>(threadIdx.x); i < ExactKeys::group_rows * dim; i += Threads) {
      out[i] = host::kernels::clamped_half(keys(i / dim, i % dim));
    }
  }
};

/// A half-warp a row: sixteen chains, then the tree over them.
template <>
struct WarpScan<ExactKeys> {
  static KVFREEZE_HD constexpr int bytes(int) { return 0; }

  /// The one head of the thread's of which it has the logit: as many threads have the same.
  static __device__ int head_of(int) { return most_scan_slots * 2; }

  template <int Pairs, class Note>
  static __device__ void scan(std::byte*, float const* q, int heads, int dim,
                              std::byte const* group, float* logits, std::ptrdiff_t stride, Note&) {
    constexpr int most = 2 * Pairs;
    constexpr int owners = 16 / most;  // threads that end up with one head's logit
    int const i = static_cast<int>(threadIdx.x % 16);
    auto const* const keys = reinterpret_cast<Half const*>(group);
    for (int row = static_cast<int>(threadIdx.x % 32 / 16); row < ExactKeys::group_rows; row += 2) {
      float total[most] = {};
      for (int c = i; c < rounded_up(dim, 16); c += 16) {  // behind the last queries are 0
        float const x = c < dim ? widened(keys[row * dim + c]) : 0.0F;
#pragma unroll
        for (int h = 0; h < most; ++h) {
          total[h] = __fmaf_rn(q[h * query_line(dim) + c], x, total[h]);
        }
      }
      float const logit = reduce<16>(total, i, [](float a, float b) { return __fadd_rn(a, b); });
      if (i % owners == 0 && i / owners < heads) {
        logits[i / owners * stride + row] = logit;
      }
    }
  }
};

/// @brief Where a group's parts lie; none but the first is aligned to more than two bytes.
template <int Percent>
struct PartialGroup {
  std::byte* channels;  ///< [kept] uint16
  std::byte* scales;    ///< [kept] float
  std::byte* codes;     ///< [kept][64]
  int kept;

  __device__ PartialGroup(std::byte* group, int dim)
      : channels(group),
        scales(group + 2 * PartialKeys<Percent>::channels(dim)),
        codes(group + 6 * PartialKeys<Percent>::channels(dim)),
        kept(PartialKeys<Percent>::channels(dim)) {}

  [[nodiscard]] __device__ int channel(int i) const {
    return reinterpret_cast<std::uint16_t const*>(channels)[i];
  }

  [[nodiscard]] __device__ float scale(int i) const {
    auto const* const halves = reinterpret_cast<std::uint16_t const*>(scales) + 2 * i;
    return __uint_as_float(halves[0] | static_cast<unsigned>(halves[1]) << 16);
  }

  __device__ void set(int i, int channel, float scale) const {
    reinterpret_cast<std::uint16_t*>(channels)[i] = static_cast<std::uint16_t>(channel);
    auto* const halves = reinterpret_cast<std::uint16_t*>(scales) + 2 * i;
    halves[0] = static_cast<std::uint16_t>(__float_as_uint(scale));
    halves[1] = static_cast<std::uint16_t>(__float_as_uint(scale) >> 16);
  }
};

template <int Percent>
struct Encoder<PartialKeys<Percent>> {
  static constexpr int rows = PartialKeys<Percent>::group_rows;

  struct Storage {
    float worth[PartialKeys<Percent>::most_dim];
    float largest[PartialKeys<Percent>::most_dim];
    float scale[PartialKeys<Percent>::most_dim];            ///< by rank
    std::uint16_t channel[PartialKeys<Percent>::most_dim];  ///< by rank
  };

  template <int Threads, class Keys>
  static __device__ void encode(Storage& storage, Keys const& keys, float const* importance,
                                int dim, std::byte* group) {
    int const thread = static_cast<int>(threadIdx.x);
    bool known = false;
    for (int c = thread; c < dim; c += Threads) {
      known = known || (importance != nullptr && importance[c] > 0.0F);
    }
    known = __syncthreads_or(known ? 1 : 0) != 0;
    for (int c = thread; c < dim; c += Threads) {
      float energy = 0.0F;
      float largest = 0.0F;
#pragma unroll 8
      for (int row = 0; row < rows; ++row) {
        float const k = keys(row, c);
        energy = __fmaf_rn(k, k, energy);
        largest = fmaxf(largest, fabsf(k));
      }
      storage.worth[c] = known ? __fmul_rn(energy, importance[c]) : energy;
      storage.largest[c] = largest;
    }
    __syncthreads();
    PartialGroup<Percent> const out(group, dim);
    for (int c = thread; c < dim; c += Threads) {
      float const own = storage.worth[c];
      int rank = 0;
      for (int other = 0; other < dim; ++other) {
        float const worth = storage.worth[other];
        rank += worth > own || (worth == own && other < c) ? 1 : 0;
      }
      if (rank < out.kept) {
        float const scale = __fdiv_rn(storage.largest[c], 127.0F);
        storage.scale[rank] = scale;
        storage.channel[rank] = static_cast<std::uint16_t>(c);
        out.set(rank, c, scale);
      }
    }
    __syncthreads();
    for (int i = thread; i < out.kept * rows; i += Threads) {
      float const scale = storage.scale[i / rows];
      float const x =
          scale > 0.0F ? __fdiv_rn(keys(i % rows, storage.channel[i / rows]), scale) : 0.0F;
      out.codes[i] = static_cast<std::byte>(
          static_cast<std::int8_t>(__float2int_rn(fmaxf(fminf(x, 127.0F), -127.0F))));
    }
  }
};

/// Two rows a thread, channel after channel.
template <int Percent>
struct WarpScan<PartialKeys<Percent>> {
  static KVFREEZE_HD constexpr int bytes(int) { return 0; }

  static __device__ int head_of(int) { return most_scan_slots * 2; }

  template <int Pairs, class Note>
  static __device__ void scan(std::byte*, float const* q, int heads, int dim,
                              std::byte const* group, float* logits, std::ptrdiff_t stride, Note&) {
    constexpr int most = 2 * Pairs;
    constexpr int rows = PartialKeys<Percent>::group_rows;
    int const lane = static_cast<int>(threadIdx.x % 32);
    PartialGroup<Percent> const from(const_cast<std::byte*>(group), dim);
    float sums[most][rows / 32] = {};
    for (int i = 0; i < from.kept; ++i) {
      float const* const query = q + from.channel(i);
      float const scale = from.scale(i);
      float codes[rows / 32];
#pragma unroll
      for (int r = 0; r < rows / 32; ++r) {
        codes[r] =
            static_cast<float>(static_cast<std::int8_t>(from.codes[i * rows + 32 * r + lane]));
      }
#pragma unroll
      for (int h = 0; h < most; ++h) {
        float const weight = __fmul_rn(query[h * query_line(dim)], scale);
#pragma unroll
        for (int r = 0; r < rows / 32; ++r) {
          sums[h][r] = __fmaf_rn(weight, codes[r], sums[h][r]);
        }
      }
    }
#pragma unroll
    for (int h = 0; h < most; ++h) {
#pragma unroll
      for (int r = 0; r < rows / 32; ++r) {
        if (h < heads) {
          logits[h * stride + 32 * r + lane] = sums[h][r];
        }
      }
    }
  }
};

}  // namespace kvfreeze::gpu::detail
