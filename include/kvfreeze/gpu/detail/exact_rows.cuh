#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/attention_sums.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>
#include <kvfreeze/gpu/detail/slot_rows.cuh>
#include <kvfreeze/gpu/paged_rows.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Queries of a warp's heads in registers, for the canonical dot product: thread t has the
/// elements of chain t % 16.
///
/// host::dot: sixteen chains of fused multiply-adds from zero, a last half block adding zeros to
/// the upper eight; then lanes i and i + 8, i + 4, i + 2, i + 1 are added.
template <Element T, int Dim>
struct ChainQueries {
  static constexpr int steps = Dim / 16;

  float q[warp_heads][steps];

  /// Elements of [heads][dim] times `octaves`. Behind the last block they are -0: with keys of +0 a
  /// multiply-add then changes nothing, not even the sign of a zero.
  __device__ void load(float const* from, int heads, int dim, float octaves) {
    int const chain = static_cast<int>(warp_thread() % 16);
#pragma unroll
    for (int h = 0; h < warp_heads; ++h) {
#pragma unroll
      for (int s = 0; s < steps; ++s) {
        int const at = 16 * s + chain;
        q[h][s] = 16 * s < dim ? 0.0F : -0.0F;
        if (h < heads && at < dim) {
          q[h][s] = __fmul_rn(from[h * dim + at], octaves);
        }
      }
    }
  }

  /// @param keys eight rows in a slot
  /// @return the logit of the thread's row and head
  __device__ float logit(std::byte const* keys) const {
    using Rows = SlotRows<T, Dim>;
    unsigned const t = warp_thread();
    unsigned const half = t / 16;  // rows 0 to 3, rows 4 to 7
    std::byte const* const base = keys + half * 4 * Rows::row_bytes + t % 16 * sizeof(T);
    float x[4][warp_heads] = {};
#pragma unroll
    for (unsigned s = 0; s < steps; ++s) {
      unsigned const at = (s ^ half) * Rows::chain_bytes;
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        float const k = SharedElements<T>::one(base + r * Rows::row_bytes + at);
#pragma unroll
        for (int h = 0; h < warp_heads; ++h) {
          x[r][h] = __fmaf_rn(q[h][s], k, x[r][h]);
        }
      }
    }
    return summed(x, t);
  }

 private:
  /// At each level of the tree a thread keeps half of its sums and gives the other half to its
  /// partner. An addition is the same either way round.
  static __device__ float summed(float const (&x)[4][warp_heads], unsigned t) {
    bool const row_high = (t & 8U) != 0;
    bool const row_low = (t & 4U) != 0;
    bool const head_high = (t & 2U) != 0;
    bool const head_low = (t & 1U) != 0;
    float a[2][warp_heads];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int h = 0; h < warp_heads; ++h) {
        a[r][h] = exchanged(row_high, x[r][h], x[r + 2][h], 8);
      }
    }
    float b[warp_heads];
#pragma unroll
    for (int h = 0; h < warp_heads; ++h) {
      b[h] = exchanged(row_low, a[0][h], a[1][h], 4);
    }
    float const c = exchanged(head_high, b[0], b[2], 2);
    float const d = exchanged(head_high, b[1], b[3], 2);
    return exchanged(head_low, c, d, 1);
  }

  static __device__ float exchanged(bool upper, float low, float high, int distance) {
    float const kept = upper ? high : low;
    float const given = upper ? low : high;
    return __fadd_rn(kept, __shfl_xor_sync(0xFFFFFFFFU, given, distance));
  }
};

/// @brief Exact rows whose logits are computed here.
/// @tparam WithValues false: keys alone are read
template <Element T, int Dim, bool WithValues>
class ExactRows {
  using Slot = SlotRows<T, Dim>;

 public:
  static constexpr int tile_rows = 8;
  static constexpr int slot_bytes = (WithValues ? 2 : 1) * tile_rows * Slot::row_bytes;
  static constexpr bool relative = false;
  using Ahead = typename Slot::Place;
  using Sums = RowSums<Dim>;
  using Given = NoLogits;

  /// @param lane must outlive this; its rows from `first` on are meant
  /// @param q [heads.count][dim], times `octaves`
  template <class Lane>
  __device__ ExactRows(Lane const& lane, std::uint32_t first, float const* q,
                       WarpHeads const& heads, int dim, float octaves)
      : rows_(lane.rows),
        logits_(lane.logits == nullptr || (WithValues && lane.notes == 0)
                    ? nullptr
                    : lane.logits + heads.first * lane.stride + first),
        stride_(lane.stride),
        first_(first),
        heads_(heads.count),
        dim_(dim) {
    queries_.load(q, heads.count, dim, octaves);
  }

  __device__ void look_up(Ahead& ahead, TileSpan tile) const {
    Slot::template look_up_slots<tile_rows>(rows_, first_ + tile.first, tile.rows, ahead);
  }

  __device__ void look_up(Ahead& ahead, TileSpan tile, TileSpan next) const {
    Slot::template look_up_pages<tile_rows>(rows_, tile.rows, ahead);
    look_up(ahead, next);
  }

  __device__ void copy(Ahead const& ahead, TileSpan tile, std::byte* slot) const {
    Slot::template copy<tile_rows, true, WithValues>(rows_, ahead, tile.rows, dim_, slot);
  }

  __device__ Given given(TileSpan) const { return {}; }

  __device__ void logits(std::byte const* slot, Given const&, float (&out)[1]) const {
    out[0] = queries_.logit(slot);
  }

  __device__ void note(TileSpan tile, float const (&logits)[1]) const {
    unsigned const row = warp_thread() / warp_heads;
    unsigned const head = warp_thread() % warp_heads;
    if (logits_ != nullptr && row < tile.rows && head < static_cast<unsigned>(heads_)) {
      logits_[head * stride_ + tile.first + row] = logits[0];
    }
  }

  __device__ float factor(std::byte const*, unsigned) const { return 1.0F; }

  __device__ void accumulate(std::byte const* slot, float4 const* weights, Sums& sums) const {
    Slot::template accumulate<tile_rows>(slot + tile_rows * Slot::row_bytes, weights, sums.sums);
  }

  static __device__ int channel(int i) { return Slot::channel(i); }

 private:
  PagedRows<T> const& rows_;
  float* logits_;
  std::size_t stride_;
  std::uint32_t first_;
  int heads_;
  int dim_;
  ChainQueries<T, Dim> queries_;
};

/// @brief Exact rows whose logits are known: V alone is read.
template <Element T, int Dim>
class KnownRows {
  using Slot = SlotRows<T, Dim>;

 public:
  static constexpr int tile_rows = 16;
  static constexpr int slot_bytes = tile_rows * Slot::row_bytes;
  static constexpr bool relative = false;
  using Ahead = typename Slot::Place;
  using Sums = RowSums<Dim>;
  using Given = GivenLogits<tile_rows / 8>;

  template <class Lane>
  __device__ KnownRows(Lane const& lane, WarpHeads const& heads, int dim)
      : rows_(lane.rows),
        logits_(lane.logits + heads.first * lane.stride, lane.stride, 1, heads.count),
        dim_(dim) {}

  __device__ void look_up(Ahead& ahead, TileSpan tile) const {
    Slot::template look_up_slots<tile_rows>(rows_, tile.first, tile.rows, ahead);
  }

  __device__ void look_up(Ahead& ahead, TileSpan tile, TileSpan next) const {
    Slot::template look_up_pages<tile_rows>(rows_, tile.rows, ahead);
    look_up(ahead, next);
  }

  __device__ void copy(Ahead const& ahead, TileSpan tile, std::byte* slot) const {
    Slot::template copy<tile_rows, false, true>(rows_, ahead, tile.rows, dim_, slot);
  }

  __device__ Given given(TileSpan tile) const { return logits_.read<tile_rows / 8>(tile, 1); }

  __device__ void logits(std::byte const*, Given const& given, float (&out)[2]) const {
    out[0] = given.logit[0];
    out[1] = given.logit[1];
  }

  __device__ void note(TileSpan, float const (&)[2]) const {}

  __device__ float factor(std::byte const*, unsigned) const { return 1.0F; }

  __device__ void accumulate(std::byte const* slot, float4 const* weights, Sums& sums) const {
    Slot::template accumulate<tile_rows>(slot, weights, sums.sums);
  }

  static __device__ int channel(int i) { return Slot::channel(i); }

 private:
  PagedRows<T> const& rows_;
  LogitReader logits_;
  int dim_;
};

static_assert(RowSource<ExactRows<Half, 64, true>>);
static_assert(RowSource<KnownRows<float, 128>>);

}  // namespace kvfreeze::gpu::detail
