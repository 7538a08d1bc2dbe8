#pragma once

/// @file
/// @brief What a ranking scan does with a group beside scoring it: its compact rows get the logits
/// of their longer codes while the queries are folded for the group.

#include <kvfreeze/gpu/code_pages.cuh>
#include <kvfreeze/gpu/detail/group_cells.cuh>
#include <kvfreeze/gpu/detail/largest_logits.cuh>
#include <kvfreeze/gpu/detail/step.cuh>
#include <kvfreeze/gpu/detail/warp_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Rows of a compact level, as a scan finds them.
struct CodedPool {
  CodePages residuals;           ///< lower bits of their keys, of the first KV head
  std::uint32_t head_bytes = 0;  ///< from KV head to KV head
  std::uint32_t begin = 0;       ///< of their logits among those of the pools
};

/// @brief What a scan knows of a lane's KV head, in shared memory: what all threads know needs no
/// registers.
template <class C>
struct ScannedRows {
  std::uint8_t const* states;
  std::uint32_t const* places;  ///< of the lane's compact rows, CodePlace by row
  DigestLane digests;           ///< of the KV head, with its queries and where logits are
  int kv_head;
  int first_query;  ///< of the KV head, among the lane's
  int queries;      ///< of the lane
  CodedPool pools[C::levels];
  CodedLogits coded;
  LargestLogits largest;  ///< of the lane's queries

  [[nodiscard]] __device__ std::byte const* residual(CodePlace place) const {
    CodedPool const& pool = pools[place.level];
    std::byte const* const first = pool.residuals.at(place.slot);
    return C::by_layer ? first + static_cast<std::size_t>(kv_head) * pool.head_bytes : first;
  }

  /// @param query of the KV head
  __device__ void note(int query, float logit) { largest.note(numbered(query), logit); }

  /// A query of the KV head among the lane's.
  [[nodiscard]] __device__ int numbered(int query) const {
    return C::by_layer ? first_query + query : query;
  }

  /// @brief Notes a compact row's logits under two queries of the KV head, or one if there are not
  /// more. The first one's number is even.
  /// @param row among those of all pools
  __device__ void store(std::uint32_t row, int query, bool two, float2 logits) const {
    float* const to = global(coded.row(row)) + numbered(query);
    if (!C::by_layer && coded.width > 1) {
      *reinterpret_cast<float2*>(to) = two ? logits : float2{logits.x, 0.0F};
      return;
    }
    to[0] = logits.x;
    if (two) {
      to[1] = logits.y;
    } else if (numbered(query) + 1 == queries) {
      coded.pad(row, queries);
    }
  }
};

/// Lower bits of the keys of a level's rows.
template <class C>
__device__ CodePages residual_pages(LaneRef<C> const& ref, int level) {
  Geometry const& g = *ref.geometry;
  SegmentGeometry const& segment = g.segment[pool_segment(level)];
  return {ref.pages, ref.table + segment.first_page, segment.per_page, g.page_bytes,
          g.pool[level].residual_bytes};
}

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

  /// @param rows in shared memory, seen by all before the first group
  /// @param memory shared, of the warp
  __device__ RankNote(ScannedRows<C>& rows, std::byte* memory)
      : lane_(rows), screens_(reinterpret_cast<float*>(memory)) {
    clear();
  }

  __device__ void group(std::uint32_t row, int head) {
    row_ = row;
    head_ = head;
  }

  __device__ void look(int row) {
    first_row_ = row_ + static_cast<std::uint32_t>(row);
    std::uint8_t const* const two = lane_.states + (first_row_ + threadIdx.x % 32 * 2);
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
        CodePlace const place = CodePlace::of(__ldcg(lane_.places + (first_row_ + row)));
        rows[j] = {static_cast<int>(place.level),
                   (lane_.pools[place.level].begin + place.slot) | row << 26,
                   C::refines ? lane_.residual(place) : nullptr};
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
    add(slot, is(lane_.states[row_ + static_cast<std::uint32_t>(row)], Fidelity::frozen), logit);
  }

  /// Digests without codes: what they say of a group is all that is known of its rows.
  __device__ void whole(float const* logits, std::ptrdiff_t stride, int heads) {
    __syncwarp();
    for (int i = static_cast<int>(threadIdx.x % 32); i < Digest::group_rows; i += 32) {
      std::uint32_t const row = row_ + static_cast<std::uint32_t>(i);
      if (is(lane_.states[row], Fidelity::compact)) {
        CodePlace const place = CodePlace::of(__ldcg(lane_.places + row));
        std::uint32_t const at = lane_.pools[place.level].begin + place.slot;
        for (int h = 0; h < heads; h += 2) {
          bool const two = h + 1 < heads;
          float2 const pair{__ldcg(logits + h * stride + i),
                            two ? __ldcg(logits + (h + 1) * stride + i) : minus_infinity()};
          lane_.store(at, head() + h, two, pair);
          lane_.note(head() + h, pair.x);
          lane_.note(head() + h + 1, pair.y);  // nothing if there is none
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
        lane_.note(head + h, largest_[slot]);
      }
    }
    clear();
  }

 private:
  /// First head of the pass: where all heads fit into one it is known.
  [[nodiscard]] __device__ int head() const { return Heads < scan_heads ? 0 : head_; }

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
    for (int first = 0; first < count; first += 16) {
      int const listed[2] = {min(first + g, count - 1), min(first + g + 8, count - 1)};
      std::uint32_t const rows[2] = {entries()[listed[0]], entries()[listed[1]]};
      int4 dots{0, 0, 0, 0};
      if constexpr (Residual > 0) {
        dots = cells.template multiply<Residual>(addresses()[listed[0]], addresses()[listed[1]]);
      }
      if (h >= heads) {
        continue;
      }
      bool const two = h + 1 < heads;
      int const second = two ? h + 1 : h;
      float const units[2] = {storage.unit[h], storage.unit[second]};
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (first + g + 8 * r < count) {
          float logits[2];
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            logits[i] = screens_[(i == 0 ? h : second) * line + static_cast<int>(rows[r] >> 26)];
            if constexpr (Residual > 0) {
              int const dot = r == 0 ? (i == 0 ? dots.x : dots.y) : (i == 0 ? dots.z : dots.w);
              logits[i] = cells.template refined<Residual>(i, dot, units[i], logits[i]);
            }
          }
          lane_.store(rows[r] & position_bits, head() + h, two, float2{logits[0], logits[1]});
          add(0, true, logits[0]);
          add(1, two, logits[1]);
        }
      }
    }
  }

  ScannedRows<C>& lane_;
  float* screens_;  ///< [Heads][line] of 64 rows; then the list of rows, then the cells
  std::uint32_t row_ = 0;
  std::uint32_t first_row_ = 0;
  int head_ = 0;
  std::uint32_t first_ = 0;
  std::uint32_t second_ = 0;
  unsigned even_ = 0;
  unsigned odd_ = 0;
  bool some_compact_ = false;
  float largest_[most_scan_slots];
};

}  // namespace kvfreeze::gpu::detail
