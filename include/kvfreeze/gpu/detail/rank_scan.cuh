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
    int first = 0;
    if constexpr (Residual == 2) {
      for (; first + 32 <= quads_;
           first += 32) {  // 128 channels, of which half the threads have 64
        uint2 const a = __ldg(reinterpret_cast<uint2 const*>(first_row + first) + t);
        uint2 const b = __ldg(reinterpret_cast<uint2 const*>(second_row + first) + t);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          int const shift = 2 * i;
          multiply_codes(
              sums,
              {a.x >> shift & mask, b.x >> shift & mask, a.y >> shift & mask, b.y >> shift & mask},
              at_quad(first + t / 2 * 16 + t % 2 * 2 + 4 * i));
        }
      }
    }
    for (; first < quads_; first += 16) {  // 64 channels
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

  /// The same of a quad of the thread's own and the next.
  [[nodiscard]] __device__ uint2 at_quad(int quad) const {
    auto const head = static_cast<int>(threadIdx.x % 32 / 4);
    return head < heads_ ? *reinterpret_cast<uint2 const*>(weights_ + head * line_ + quad)
                         : uint2{0, 0};
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
  static constexpr int list_bytes = 64 * (sizeof(std::byte const*) + sizeof(std::uint32_t));
  static constexpr std::uint32_t position_bits = 0x3FFFFFFU;  ///< below them a row of 64

 public:
  /// Shared memory of a warp, a multiple of 16.
  static KVFREEZE_HD constexpr int bytes(int dim) {
    return 4 * Heads * line + list_bytes + (C::refines ? GroupCells::bytes(Heads, dim) : 0);
  }

  /// @param places of the lane's compact rows, CodePlace by row
  /// @param refinements of the lane's levels, in shared memory
  /// @param logits of the lane
  /// @param memory shared, of the warp
  __device__ RankNote(std::uint8_t const* states, std::uint32_t const* places,
                      RefineLane const* refinements, float* logits, LargestLogits& all,
                      std::byte* memory)
      : states_(states),
        places_(places),
        refinements_(refinements),
        logits_(logits),
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
    std::uint32_t const states[2] = {first_, second_};
    Row rows[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (is(states[j], Fidelity::compact)) {
        unsigned const row = threadIdx.x % 32 * 2 + static_cast<unsigned>(j);
        CodePlace const place = CodePlace::of(__ldcg(places_ + first_row_ + row));
        RefineLane const& level = refinements_[static_cast<int>(place.level)];
        auto const begin = static_cast<std::uint32_t>(level.logits - logits_);
        rows[j] = {static_cast<int>(place.level), (begin + place.slot) | row << 26,
                   C::refines ? level.residuals.at(place.slot) : nullptr};
      }
    }
    GroupCells cells(reinterpret_cast<std::uint32_t*>(reinterpret_cast<std::byte*>(entries()) +
                                                      64 * sizeof(std::uint32_t)),
                     dim);
    bool is_folded = false;
    refine_levels<0>(rows, cells, is_folded, storage, q, heads);
    __syncwarp();  // the next rows may take the screens' place
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
        RefineLane const& to = refinements_[static_cast<int>(place.level)];
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

  /// A compact row of the thread's.
  struct Row {
    int level = -1;           ///< -1: it is none
    std::uint32_t entry = 0;  ///< where its logits are; its number among 64
    std::byte const* residual = nullptr;
  };

  /// Residuals of listed rows.
  [[nodiscard]] __device__ std::byte const** addresses() const {
    return reinterpret_cast<std::byte const**>(screens_ + Heads * line);
  }

  /// Row::entry of listed rows.
  [[nodiscard]] __device__ std::uint32_t* entries() const {
    return reinterpret_cast<std::uint32_t*>(addresses() + 64);
  }

  /// Levels whose pools hold as many key bits as those of one, a bit each; none if a level below it
  /// is among them.
  template <int Level>
  static KVFREEZE_HD constexpr unsigned alike() {
    static_assert(C::levels <= 3);
    constexpr int second = C::levels > 1 ? 1 : 0;
    constexpr int third = C::levels > 2 ? 2 : 0;
    constexpr int bits[] = {C::template key_residual<0>, C::template key_residual<second>,
                            C::template key_residual<third>};
    unsigned levels = 0;
    for (int level = 0; level < C::levels; ++level) {
      if (bits[level] == bits[Level]) {
        levels |= 1U << level;
      }
    }
    return (levels & ((1U << Level) - 1U)) != 0 ? 0U : levels;
  }

  /// The 64 rows' compact ones: those whose keys have as many bits together.
  template <int Level>
  __device__ void refine_levels(Row const (&rows)[2], GroupCells& cells, bool& is_folded,
                                FoldStorage const& storage, float const* q, int heads) {
    if constexpr (Level < C::levels) {
      constexpr unsigned levels = alike<Level>();
      if constexpr (levels != 0) {
        constexpr int residual = C::template key_residual<Level>;
        bool here[2];
        unsigned listed[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          here[j] = rows[j].level >= 0 && (levels >> rows[j].level & 1U) != 0;
          listed[j] = __ballot_sync(whole_warp, here[j]);
        }
        int const count = __popc(listed[0]) + __popc(listed[1]);
        if (count != 0) {
          unsigned const below = (1U << threadIdx.x % 32) - 1U;
          __syncwarp();  // the levels before are done with the list
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            if (here[j]) {
              int const at = __popc(listed[j] & below) + (j == 0 ? 0 : __popc(listed[0]));
              entries()[at] = rows[j].entry;
              addresses()[at] = rows[j].residual;
            }
          }
          if (residual > 0 && !is_folded) {
            cells.fold(storage, q, heads);
            is_folded = true;
          }
          __syncwarp();
          refine_rows<residual>(count, cells, storage, heads);
        }
      }
      refine_levels<Level + 1>(rows, cells, is_folded, storage, q, heads);
    }
  }

  /// Listed rows, 16 at a time.
  template <int Residual>
  __device__ void refine_rows(int count, GroupCells const& cells, FoldStorage const& storage,
                              int heads) {
    auto const g = static_cast<int>(threadIdx.x % 32 / 4);
    int const h = static_cast<int>(threadIdx.x % 4) * 2;
    std::ptrdiff_t const stride = refinements_->stride;
    float* const logits = logits_ + static_cast<std::ptrdiff_t>(head_ + h) * stride;
    for (int first = 0; first < count; first += 16) {
      int const listed[2] = {min(first + g, count - 1), min(first + g + 8, count - 1)};
      std::uint32_t const rows[2] = {entries()[listed[0]], entries()[listed[1]]};
      int4 dots{0, 0, 0, 0};
      if constexpr (Residual > 0) {
        dots = cells.template multiply<Residual>(addresses()[listed[0]], addresses()[listed[1]]);
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
            float logit = screens_[(h + i) * line + static_cast<int>(rows[r] >> 26)];
            if constexpr (Residual > 0) {
              int const dot = r == 0 ? (i == 0 ? dots.x : dots.y) : (i == 0 ? dots.z : dots.w);
              logit = cells.template refined<Residual>(i, dot, unit, logit);
            }
            logits[i * stride + (rows[r] & position_bits)] = logit;
            add(i, true, logit);
          }
        }
      }
    }
  }

  std::uint8_t const* states_;
  std::uint32_t const* places_;
  RefineLane const* refinements_;
  float* logits_;
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
