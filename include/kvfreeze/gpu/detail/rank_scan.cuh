#pragma once

/// @file
/// @brief What a ranking scan does with a group beside scoring it: its compact rows get the logits
/// of their longer codes while the queries are folded for the group.

#include <kvfreeze/gpu/code_pages.cuh>
#include <kvfreeze/gpu/detail/largest_logits.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/detail/warp_scan.cuh>
#include <kvfreeze/gpu/refine_lane.cuh>
#include <kvfreeze/host/kernels/key_residuals.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Weights of a group's cells under its heads, by which the lower bits of nested codes are
/// multiplied: the bits of WarpRefine's, from what the scan has folded.
class GroupCells {
 public:
  /// Words from head to head: quads of whole 64 channels.
  static KVFREEZE_HD constexpr int line(int dim) {
    return FoldStorage::weight_words(rounded_up(dim, 64) / 4);
  }

  static KVFREEZE_HD constexpr int bytes(int heads, int dim) { return 4 * heads * line(dim); }

  /// @param memory shared, of the warp: bytes() of it
  __device__ GroupCells(std::uint32_t* memory, int dim)
      : weights_(memory), line_(line(dim)), quads_(rounded_up(dim, 64) / 4), dim_(dim) {}

  /// By the warp; all of it may multiply then.
  __device__ void fold(FoldStorage const& storage, float const* q, int heads) {
    heads_ = heads;
    int const lane = static_cast<int>(threadIdx.x % 32);
    int const row = quads_ <= 16 ? 16 : 32;  // lanes of a head
    for (int h = lane / row; h < heads; h += 32 / row) {
      float const inverse = storage.inverse[h];
      for (int i = lane % row; i < quads_; i += row) {
        std::uint32_t word = 0;
        if (4 * i < dim_) {
          int const planes = storage.planes[i];
          float4 const weight = product(load_quad(q + h * query_line(dim_) + 4 * i),
                                        load_quad(storage.widths + 4 * i));
          // Without planes the width is the cell itself.
          word = pack_weights(product(weight, inverse), planes == 0 ? 1.0F : cell_factor(planes));
        }
        weights_[h * line_ + i] = word;
      }
    }
    __syncwarp();
    int4 sums{0, 0, 0, 0};
    constexpr unsigned ones = 0x01010101U;
    for (int first = 0; first < quads_; first += 8) {
      multiply_codes(sums, {ones, ones, ones, ones}, at(first));
    }
    sum_[0] = sums.x;
    sum_[1] = sums.y;
  }

  /// @brief Products of two rows' residuals, under heads 2 t and 2 t + 1 of lane 4 g + t, whose
  /// rows they are.
  /// @return x, y: the first row's; z, w: the second one's
  template <int Residual>
  [[nodiscard]] __device__ int4 multiply(std::byte const* first_row,
                                         std::byte const* second_row) const {
    constexpr unsigned mask = 0x01010101U * ((1U << Residual) - 1U);
    int const t = static_cast<int>(threadIdx.x % 4);
    int4 sums{0, 0, 0, 0};
    for (int first = 0; first < quads_; first += 16) {  // 64 channels
      if constexpr (Residual == 4) {
        uint2 const a = __ldg(reinterpret_cast<uint2 const*>(first_row + 2 * first) + t);
        uint2 const b = __ldg(reinterpret_cast<uint2 const*>(second_row + 2 * first) + t);
        multiply_codes(sums, {a.x & mask, b.x & mask, a.y & mask, b.y & mask}, at(first));
        multiply_codes(sums, {a.x >> 4 & mask, b.x >> 4 & mask, a.y >> 4 & mask, b.y >> 4 & mask},
                       at(first + 8));
      } else {
        static_assert(Residual == 2);
        unsigned const a = __ldg(reinterpret_cast<unsigned const*>(first_row + first) + t);
        unsigned const b = __ldg(reinterpret_cast<unsigned const*>(second_row + first) + t);
        multiply_codes(sums, {a & mask, b & mask, a >> 2 & mask, b >> 2 & mask}, apart(first));
        multiply_codes(sums, {a >> 4 & mask, b >> 4 & mask, a >> 6 & mask, b >> 6 & mask},
                       apart(first + 8));
      }
    }
    return sums;
  }

  /// @brief The logit of a row whose products add up to `dot`.
  /// @param i of the thread's two heads
  /// @param unit of the head
  template <int Residual>
  [[nodiscard]] __device__ float refined(int i, int dot, float unit, float screen) const {
    // Twice the distance of the residual from its middle, which the screen stood for.
    int const twice = 2 * dot - ((1 << Residual) - 1) * sum_[i];
    return __fmaf_rn(__int2float_rn(twice),
                     __fmul_rn(unit, 1.0F / static_cast<float>(2 << Residual)), screen);
  }

 private:
  /// Weights of eight quads; lane 4 g + t has quads 2 t and 2 t + 1 of head g.
  [[nodiscard]] __device__ uint2 at(int first) const {
    return load_weights(weights_, line_, first, heads_, static_cast<int>(threadIdx.x % 32));
  }

  /// The same of quads t and t + 4.
  [[nodiscard]] __device__ uint2 apart(int first) const {
    auto const head = static_cast<int>(threadIdx.x % 32 / 4);
    std::uint32_t const* const w = weights_ + head * line_ + first + threadIdx.x % 4;
    return head < heads_ ? uint2{w[0], w[4]} : uint2{0, 0};
  }

  std::uint32_t* weights_;  ///< [heads][line]
  int line_;
  int quads_;
  int dim_;
  int heads_ = 0;
  int sum_[2] = {};  ///< of all weights, of the thread's heads
};

/// @brief A thread's note of a ranking scan. Of frozen rows it keeps the largest logits, as they
/// are those that take part in the softmax; compact rows get their own logits, in the order of
/// their pools, and count with these.
/// @tparam Heads of a pass
template <class C, int Heads>
class RankNote {
  using Digest = typename C::Digest;

  static constexpr int line = 64 + 4;  ///< floats from head to head, in different banks

 public:
  /// Shared memory of a warp, a multiple of 16.
  static KVFREEZE_HD constexpr int bytes(int dim) {
    return 4 * (Heads * line + 64) + (C::refines ? GroupCells::bytes(Heads, dim) : 0);
  }

  /// @param places of the lane's compact rows, CodePlace by row
  /// @param refinements the lane's, `stride` from level to level
  /// @param memory shared, of the warp
  __device__ RankNote(std::uint8_t const* states, std::uint32_t const* places,
                      RefineLane const* refinements, int stride, LargestLogits& all,
                      std::byte* memory)
      : states_(states),
        places_(places),
        refinements_(refinements),
        stride_(stride),
        all_(all),
        screens_(reinterpret_cast<float*>(memory)) {
    clear();
  }

  __device__ void group(std::size_t row, int head) {
    row_ = row;
    head_ = head;
  }

  __device__ void look(int row) {
    first_row_ = row_ + static_cast<std::size_t>(row);
    std::uint8_t const* const two = states_ + first_row_ + threadIdx.x % 32 * 2;
    first_ = two[0];
    second_ = two[1];
  }

  __device__ void decide() {
    unsigned const even = __ballot_sync(warp_mask, is(first_, Fidelity::frozen));
    unsigned const odd = __ballot_sync(warp_mask, is(second_, Fidelity::frozen));
    even_ = even >> (threadIdx.x % 32 / 4);
    odd_ = odd >> (threadIdx.x % 32 / 4);
    some_compact_ =
        __any_sync(warp_mask, is(first_, Fidelity::compact) || is(second_, Fidelity::compact));
  }

  __device__ void pair(int slot, int block, float a, float b) {
    add(slot, ((even_ >> (8 * block)) & 1U) != 0, a);
    add(slot, ((odd_ >> (8 * block)) & 1U) != 0, b);
    if (some_compact_) {
      unsigned const lane = threadIdx.x % 32;
      float* const to = screens_ + (lane % 4 * 2 + static_cast<unsigned>(slot)) * line +
                        16 * block + lane / 4 * 2;
      *reinterpret_cast<float2*>(to) = float2{a, b};
    }
  }

  __device__ void folded(FoldStorage const& storage, float const* q, int heads, int dim) {
    if (!some_compact_) {
      return;
    }
    bool const compact[2] = {is(first_, Fidelity::compact), is(second_, Fidelity::compact)};
    uint2 const words =
        compact[0] || compact[1]
            ? __ldcg(reinterpret_cast<uint2 const*>(places_ + first_row_) + threadIdx.x % 32)
            : uint2{0, 0};
    CodePlace const places[2] = {CodePlace::of(words.x), CodePlace::of(words.y)};
    GroupCells cells(reinterpret_cast<std::uint32_t*>(screens_ + Heads * line + 64), dim);
    bool is_folded = false;
    refine_levels<0>(compact, places, cells, is_folded, storage, q, heads);
  }

  __device__ void one(int slot, int row, float logit) {
    add(slot, is(states_[row_ + static_cast<std::size_t>(row)], Fidelity::frozen), logit);
  }

  /// Digests without codes: what they say of a group is all that is known of its rows.
  __device__ void whole(float const* logits, std::ptrdiff_t stride, int heads) {
    __syncwarp();
    for (int i = static_cast<int>(threadIdx.x % 32); i < Digest::group_rows; i += 32) {
      std::size_t const row = row_ + static_cast<std::size_t>(i);
      if (is(states_[row], Fidelity::compact)) {
        CodePlace const place = CodePlace::of(__ldcg(places_ + row));
        RefineLane const& to = refinements_[static_cast<int>(place.level) * stride_];
        for (int h = 0; h < heads; ++h) {
          float const logit = __ldcg(logits + h * stride + i);
          to.logits[static_cast<std::ptrdiff_t>(head_ + h) * to.stride + place.slot] = logit;
          all_.note(head_ + h, logit);
        }
      }
    }
  }

  template <class Scan>
  __device__ void close(int head, int some) {
#pragma unroll
    for (int slot = 0; slot < most_scan_slots; ++slot) {
      int const h = Scan::head_of(slot);
      if (h < some) {
        all_.note(head + h, largest_[slot]);
      }
    }
    clear();
  }

 private:
  static __device__ bool is(std::uint32_t state, Fidelity fidelity) {
    return (state & LogitRun::state_bits) == static_cast<std::uint32_t>(fidelity);
  }

  __device__ void clear() {
#pragma unroll
    for (float& x : largest_) {
      x = minus_infinity();
    }
  }

  __device__ void add(int slot, bool counts, float logit) {
    largest_[slot] = fmaxf(largest_[slot], counts ? logit : minus_infinity());
  }

  /// The 64 rows' compact ones, level by level.
  template <int Level>
  __device__ void refine_levels(bool const (&compact)[2], CodePlace const (&places)[2],
                                GroupCells& cells, bool& is_folded, FoldStorage const& storage,
                                float const* q, int heads) {
    if constexpr (Level < C::levels) {
      unsigned const lane = threadIdx.x % 32;
      bool const here[2] = {compact[0] && places[0].level == Level,
                            compact[1] && places[1].level == Level};
      unsigned const even = __ballot_sync(whole_warp, here[0]);
      unsigned const odd = __ballot_sync(whole_warp, here[1]);
      if ((even | odd) != 0) {
        auto* const list = reinterpret_cast<std::uint32_t*>(screens_ + Heads * line);
        unsigned const below = (1U << lane) - 1U;
        __syncwarp();  // the level before is done with the list
        if (here[0]) {
          list[__popc(even & below)] = listed(places[0], 2 * lane);
        }
        if (here[1]) {
          list[__popc(even) + __popc(odd & below)] = listed(places[1], 2 * lane + 1);
        }
        constexpr int residual = C::template key_residual<Level>;
        if (residual > 0 && !is_folded) {
          cells.fold(storage, q, heads);
          is_folded = true;
        }
        __syncwarp();
        refine_rows<residual>(refinements_[Level * stride_], list, __popc(even) + __popc(odd),
                              cells, storage, heads);
      }
      refine_levels<Level + 1>(compact, places, cells, is_folded, storage, q, heads);
    } else {
      __syncwarp();  // the next rows may take the screens' place
    }
  }

  /// A row of the 64 and its slot.
  static __device__ std::uint32_t listed(CodePlace place, unsigned row) {
    return place.slot | row << 24;
  }

  /// Listed rows, 16 at a time.
  template <int Residual>
  __device__ void refine_rows(RefineLane const& to, std::uint32_t const* list, int count,
                              GroupCells const& cells, FoldStorage const& storage, int heads) {
    constexpr std::uint32_t slot_bits = 0xFFFFFFU;
    auto const g = static_cast<int>(threadIdx.x % 32 / 4);
    int const h = static_cast<int>(threadIdx.x % 4) * 2;
    CodePages const residuals = to.residuals;
    std::ptrdiff_t const stride = to.stride;
    float* const logits = to.logits + static_cast<std::ptrdiff_t>(head_ + h) * stride;
    for (int first = 0; first < count; first += 16) {
      std::uint32_t const entries[2] = {list[min(first + g, count - 1)],
                                        list[min(first + g + 8, count - 1)]};
      int4 dots{0, 0, 0, 0};
      if constexpr (Residual > 0) {
        dots = cells.template multiply<Residual>(residuals.at(entries[0] & slot_bits),
                                                 residuals.at(entries[1] & slot_bits));
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (h + i >= heads) {
          continue;
        }
        float const unit = storage.unit[h + i];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          if (first + g + 8 * r < count) {
            float logit = screens_[(h + i) * line + static_cast<int>(entries[r] >> 24)];
            if constexpr (Residual > 0) {
              int const dot = r == 0 ? (i == 0 ? dots.x : dots.y) : (i == 0 ? dots.z : dots.w);
              logit = cells.template refined<Residual>(i, dot, unit, logit);
            }
            logits[i * stride + (entries[r] & slot_bits)] = logit;
            add(i, true, logit);
          }
        }
      }
    }
  }

  std::uint8_t const* states_;
  std::uint32_t const* places_;
  RefineLane const* refinements_;
  int stride_;
  LargestLogits& all_;
  float* screens_;  ///< [Heads][line] of 64 rows; then the list of rows, then the cells
  std::size_t row_ = 0;
  std::size_t first_row_ = 0;
  int head_ = 0;
  std::uint32_t first_ = 0;
  std::uint32_t second_ = 0;
  unsigned even_ = 0;
  unsigned odd_ = 0;
  bool some_compact_ = false;
  float largest_[most_scan_slots];
};

}  // namespace kvfreeze::gpu::detail
