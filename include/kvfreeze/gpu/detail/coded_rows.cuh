#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/detail/async_copy.cuh>
#include <kvfreeze/gpu/detail/code_sums.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief What codes stand for, by index bits: single codes of 4 bits, pairs of codes of 2. Filled
/// on the host, where constant arrays can be indexed; read from shared memory, where sixteen words
/// are sixteen banks.
struct CodeLevels {
  /// Of tables in shared memory: an entry's offset can be put into an address's low bits, by the
  /// same instruction that cuts it out of a code word.
  static constexpr unsigned alignment = 128;

  float2 two[16] = {};
  float four[16] = {};

  static CodeLevels make() noexcept {
    CodeLevels out;
    for (std::size_t i = 0; i < 16; ++i) {
      out.four[i] = host::ValueLevels<4>::levels[i];
      out.two[i] = {host::ValueLevels<2>::levels[i % 4], host::ValueLevels<2>::levels[i / 4]};
    }
    return out;
  }
};

/// Are the levels of codes exact in TF32, as CodeSums multiplies them?
template <int Bits>
constexpr bool levels_are_exact() noexcept {
  for (float const level : host::ValueLevels<Bits>::levels) {
    constexpr std::uint32_t cut_off = 0x1FFF;
    if ((std::bit_cast<std::uint32_t>(level) & cut_off) != 0) {
      return false;
    }
  }
  return true;
}

static_assert(levels_are_exact<2>() && levels_are_exact<4>());

/// @brief Compact rows: logits are given, values decoded in registers.
///
/// Of every eight rows thread 4 g + t decodes rows t and t + 4. @see CodeSums
template <int Bits, int Dim>
class CodedRows {
 public:
  static constexpr int tile_rows = 32;
  static constexpr int row_bytes = Dim * Bits / 8;
  static constexpr int slot_bytes = tile_rows * (row_bytes + static_cast<int>(sizeof(float)));
  static constexpr bool relative = true;
  using Given = GivenLogits<tile_rows / 8>;
  using Sums = CodeSums<Dim>;

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
        logits_(rows.logits + heads.first * rows.stride, rows.stride, rows.row_stride, heads.count),
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
    std::uint32_t const to = shared_address(slot);
#pragma unroll
    for (unsigned i = 0; i < chunks; ++i) {
      unsigned const row = (32 * i + t) / chunks;
      unsigned const chunk = (32 * i + t) % chunks;
      auto const* const from = reinterpret_cast<std::byte const*>(
          __shfl_sync(0xFFFFFFFFU, codes, static_cast<int>(row)));
      copy_or_clear(to + row * row_bytes + 16 * chunk, from + 16 * chunk,
                    row < tile.rows && 16 * chunk < bytes);
    }
    reinterpret_cast<float*>(slot + tile_rows * row_bytes)[t] = to_float(ahead.scale);
  }

  __device__ Given given(TileSpan tile) const {
    return logits_.read<tile_rows / 8>(tile, rows_.row_stride);
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

  __device__ void accumulate(std::byte const* slot, float4 const* weights, Sums& sums) const {
    unsigned const g = warp_thread() / 4;
    unsigned const t = warp_thread() % 4;
    float const* const own = reinterpret_cast<float const*>(weights) + g % warp_heads;
    std::byte const* const codes = slot + g * CodeWords::bytes;
    unsigned const table = table_address();
#pragma unroll 1
    for (unsigned first = t; first < tile_rows; first += 8) {
      typename Sums::Weights const columns(own[warp_heads * first], own[warp_heads * (first + 4)]);
      CodeWords const a(codes + first * row_bytes);
      CodeWords const b(codes + (first + 4) * row_bytes);
#pragma unroll
      for (int word = 0; word < Sums::words; ++word) {
        float first_row[4];
        float second_row[4];
        decode(table, a.word(word), first_row);
        decode(table, b.word(word), second_row);
        sums.add(word, first_row, second_row, columns);
      }
    }
  }

 private:
  /// A thread's code words of a row: four channels each.
  struct CodeWords {
    static constexpr int bytes = Sums::words * Bits / 2;

    std::uint32_t x[(bytes + 3) / 4];

    __device__ explicit CodeWords(std::byte const* from) {
      if constexpr (bytes == 2) {
        x[0] = *reinterpret_cast<std::uint16_t const*>(from);
      } else if constexpr (bytes == 4) {
        x[0] = *reinterpret_cast<std::uint32_t const*>(from);
      } else if constexpr (bytes == 8) {
        auto const two = *reinterpret_cast<uint2 const*>(from);
        x[0] = two.x;
        x[1] = two.y;
      } else {
#pragma unroll
        for (int i = 0; i < bytes / 16; ++i) {
          auto const four = reinterpret_cast<uint4 const*>(from)[i];
          x[4 * i] = four.x;
          x[4 * i + 1] = four.y;
          x[4 * i + 2] = four.z;
          x[4 * i + 3] = four.w;
        }
      }
    }

    /// In the lowest bits.
    [[nodiscard]] __device__ std::uint32_t word(int i) const {
      constexpr int each = 4 * Bits;
      return x[i * each / 32] >> (i * each % 32);
    }
  };

  /// In shared memory.
  [[nodiscard]] __device__ unsigned table_address() const {
    void const* const table =
        Bits == 2 ? static_cast<void const*>(tables_.two) : static_cast<void const*>(tables_.four);
    return shared_address(table);
  }

  /// Address of the table's entry that four bits of a word name.
  /// @tparam Shift an entry has 2^Shift bytes
  template <int Shift>
  static __device__ unsigned entry(unsigned table, std::uint32_t word, int first_bit) {
    int const down = first_bit - Shift;
    return table | ((down < 0 ? word << -down : word >> down) & (15U << Shift));
  }

  /// The tables were written before anything that depends on `word`.
  static __device__ void decode(unsigned table, std::uint32_t word, float (&v)[4]) {
    if constexpr (Bits == 2) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        asm("ld.shared.v2.f32 {%0, %1}, [%2];"
            : "=f"(v[2 * i]), "=f"(v[2 * i + 1])
            : "r"(entry<3>(table, word, 4 * i)));
      }
    } else if constexpr (Bits == 4) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        asm("ld.shared.f32 %0, [%1];" : "=f"(v[i]) : "r"(entry<2>(table, word, 4 * i)));
      }
    } else {
      // 2^23 + byte is a float whose low bits are the byte; bytes are moved up by 128 before.
      constexpr float origin = 0x1p23F + 128.0F;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        unsigned const bits =
            __byte_perm(word ^ 0x80808080U, 0x4B000000U, 0x7650U | static_cast<unsigned>(i));
        v[i] = __fsub_rn(__uint_as_float(bits), origin);
      }
    }
  }

  ValueCodeRows const& rows_;
  CodeLevels const& tables_;
  LogitReader logits_;
  int dim_;
};

static_assert(RowSource<CodedRows<4, 128>>);

}  // namespace kvfreeze::gpu::detail
