#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/detail/async_copy.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What codes stand for, by index bits: single codes of 4 bits, pairs of codes of 2. Filled
/// on the host, where constant arrays can be indexed; read from shared memory, where sixteen words
/// are sixteen banks.
struct CodeLevels {
  float four[16] = {};
  float2 two[16] = {};

  static CodeLevels make() noexcept {
    CodeLevels out;
    for (std::size_t i = 0; i < 16; ++i) {
      out.four[i] = host::ValueLevels<4>::levels[i];
      out.two[i] = {host::ValueLevels<2>::levels[i % 4], host::ValueLevels<2>::levels[i / 4]};
    }
    return out;
  }
};

/// @brief Compact rows: logits are given, values decoded in registers.
///
/// Of 64 channels, thread j of eight has those of code words 2 j and 2 j + 1, four each.
template <int Bits, int Dim>
class CodedRows {
 public:
  static constexpr int tile_rows = 32;
  static constexpr int row_bytes = Dim * Bits / 8;
  static constexpr int slot_bytes = tile_rows * (row_bytes + static_cast<int>(sizeof(float)));
  static constexpr bool neighbours = false;
  static constexpr bool relative = true;
  using Given = GivenLogits<tile_rows / 8>;

  /// Of row t of the tile, in thread t. Found in two steps, a tile apart.
  struct Ahead {
    std::uint32_t next_page = 0;  ///< of the tile behind
    std::uint32_t next_within = 0;
    std::byte const* codes = nullptr;
    BFloat16 scale;
  };

  __device__ CodedRows(ValueCodeRows const& rows, CodeLevels const& tables, WarpHeads const& heads,
                       int dim)
      : rows_(rows),
        tables_(tables),
        logits_(rows.logits + heads.first * rows.stride),
        heads_(heads.count),
        dim_(dim) {}

  __device__ void look_up(Ahead& ahead, TileSpan tile) const {
    std::uint32_t const row = tile.first + warp_thread();
    std::uint32_t const entry = row / rows_.page_rows;
    ahead.next_within = row - entry * rows_.page_rows;
    ahead.next_page = entry;
    if (rows_.pages != nullptr && warp_thread() < tile.rows) {
      ahead.next_page = __ldg(rows_.pages + entry);
    }
  }

  __device__ void look_up(Ahead& ahead, TileSpan tile, TileSpan next) const {
    std::byte const* const page =
        rows_.base + static_cast<std::size_t>(ahead.next_page) * rows_.page_bytes;
    ahead.codes = page + rows_.values + ahead.next_within * host::value_code_bytes<Bits>(dim_);
    if (warp_thread() < tile.rows) {
      ahead.scale = {
          __ldg(reinterpret_cast<std::uint16_t const*>(page + rows_.scales) + ahead.next_within)};
    }
    look_up(ahead, next);
  }

  __device__ void copy(Ahead const& ahead, TileSpan tile, std::byte* slot) const {
    constexpr unsigned chunks = row_bytes / 16;
    unsigned const t = warp_thread();
    auto const bytes = static_cast<unsigned>(host::value_code_bytes<Bits>(dim_));
    auto const codes = reinterpret_cast<unsigned long long>(ahead.codes);
#pragma unroll
    for (unsigned i = 0; i < chunks; ++i) {
      unsigned const row = (32 * i + t) / chunks;
      unsigned const chunk = (32 * i + t) % chunks;
      auto const* const from = reinterpret_cast<std::byte const*>(
          __shfl_sync(0xFFFFFFFFU, codes, static_cast<int>(row)));
      copy_or_clear(slot + row * row_bytes + 16 * chunk, from + 16 * chunk,
                    row < tile.rows && 16 * chunk < bytes);
    }
    reinterpret_cast<float*>(slot + tile_rows * row_bytes)[t] = to_float(ahead.scale);
  }

  __device__ Given given(TileSpan tile) const {
    return Given::read(logits_, rows_.stride, heads_, tile);
  }

  __device__ void logits(std::byte const*, Given const& given, float (&out)[tile_rows / 8]) const {
#pragma unroll
    for (int i = 0; i < tile_rows / 8; ++i) {
      out[i] = given.logit[i];
    }
  }

  __device__ void note(TileSpan, float const (&)[tile_rows / 8]) const {}

  __device__ float factor(std::byte const* slot, unsigned row) const {
    return reinterpret_cast<float const*>(slot + tile_rows * row_bytes)[row];
  }

  __device__ void accumulate(std::byte const* slot, float4 const* weights,
                             float (&sums)[warp_heads][thread_channels]) const {
    constexpr unsigned row_threads = Dim / thread_channels;
    unsigned const within = warp_thread() % row_threads;
    std::byte const* const codes = slot + within * Bits;  // a code word is Bits / 2 bytes
#pragma unroll 2
    for (unsigned i = 0; i < tile_rows * row_threads / 32; ++i) {
      unsigned const row = i * (32 / row_threads) + warp_thread() / row_threads;
      float v[thread_channels];
      decode(codes + row * row_bytes, v);
      float4 const w = weights[row];
#pragma unroll
      for (int c = 0; c < thread_channels; ++c) {
        sums[0][c] = __fmaf_rn(w.x, v[c], sums[0][c]);
        sums[1][c] = __fmaf_rn(w.y, v[c], sums[1][c]);
        sums[2][c] = __fmaf_rn(w.z, v[c], sums[2][c]);
        sums[3][c] = __fmaf_rn(w.w, v[c], sums[3][c]);
      }
    }
  }

  /// Word 2 j + i / 4, of which part i % 4 is 16 channels further on for each.
  static __device__ int channel(int i) {
    auto const within = static_cast<int>(warp_thread() % (Dim / thread_channels));
    return within / 8 * 64 + i % 4 * 16 + within % 8 * 2 + i / 4;
  }

 private:
  __device__ void decode(std::byte const* at, float (&v)[thread_channels]) const {
    if constexpr (Bits == 2) {
      unsigned const x = *reinterpret_cast<unsigned short const*>(at);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float2 const two = tables_.two[(x >> (4 * i)) & 15U];
        v[2 * i] = two.x;
        v[2 * i + 1] = two.y;
      }
    } else if constexpr (Bits == 4) {
      unsigned const x = *reinterpret_cast<unsigned const*>(at);
#pragma unroll
      for (int i = 0; i < thread_channels; ++i) {
        v[i] = tables_.four[(x >> (4 * i)) & 15U];
      }
    } else {
      uint2 const x = *reinterpret_cast<uint2 const*>(at);
      // 2^23 + byte is a float whose low bits are the byte; bytes are moved up by 128 before.
      constexpr float origin = 0x1p23F + 128.0F;
      unsigned const words[2] = {x.x ^ 0x80808080U, x.y ^ 0x80808080U};
#pragma unroll
      for (int i = 0; i < thread_channels; ++i) {
        unsigned const bits =
            __byte_perm(words[i / 4], 0x4B000000U, 0x7650U | static_cast<unsigned>(i % 4));
        v[i] = __fsub_rn(__uint_as_float(bits), origin);
      }
    }
  }

  ValueCodeRows const& rows_;
  CodeLevels const& tables_;
  float const* logits_;
  int heads_;
  int dim_;
};

static_assert(RowSource<CodedRows<4, 128>>);

}  // namespace kvfreeze::gpu::detail
