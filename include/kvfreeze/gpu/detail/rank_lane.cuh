#pragma once

/// @file
/// @brief From a lane's queries to what becomes of its rows, by some blocks together: logits, their
/// softmax, the ladder's decisions.

#include <kvfreeze/gpu/detail/digest_scan_kernels.cuh>
#include <kvfreeze/gpu/detail/lane_barrier.cuh>
#include <kvfreeze/gpu/detail/rank_arguments.cuh>
#include <kvfreeze/gpu/detail/refine_kernels.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Shared memory of a warp that refines rows of any level.
template <class C, int Level = 0>
KVFREEZE_HD constexpr int refine_warp_bytes(int dim) {
  if constexpr (Level == C::levels) {
    return 0;
  } else {
    constexpr int residual = C::template key_residual<Level>;
    int own = 0;
    if constexpr (residual > 0) {
      own = WarpRefine<typename C::Digest, residual>::bytes(dim);
    }
    int const others = refine_warp_bytes<C, Level + 1>(dim);
    return own > others ? own : others;
  }
}

/// Query heads that are refined together, whatever the level.
inline constexpr int refine_heads = 4;

/// @brief One lane, by one of its blocks. Every function is called by all threads.
template <class C, int Dim>
class RankLane {
  using Digest = typename C::Digest;
  using Tiles = LogitTiles<typename LayerStep<C>::Lane, Dim>;

 public:
  /// Shared memory of a block beside RankStorage, in bytes.
  static constexpr std::size_t shared_bytes(int heads, int dim) {
    int const pairs = heads <= 2 ? 1 : heads <= 4 ? 2 : 4;
    std::size_t const scan = digest_scan_bytes<Digest>(rank_warps, pairs, dim);
    auto const refine = static_cast<std::size_t>(4 * refine_heads * query_line(dim) +
                                                 rank_warps * refine_warp_bytes<C>(dim));
    std::size_t const most = scan > refine ? scan : refine;
    return most > Tiles::Sizes::ring_bytes ? most : Tiles::Sizes::ring_bytes;
  }

  /// @param storage its `place` is the block's
  __device__ RankLane(RankArguments<C> const& arguments, RankStorage<C>& storage, std::byte* memory)
      : a_(arguments),
        step_(arguments.ladder.step),
        place_(storage.place),
        s_(storage),
        memory_(memory) {}

  /// Also where its row could not be appended, and what is known of it is of another step.
  [[nodiscard]] __device__ bool is_dense() const {
    WorkLane const where(a_.ladder.geometry, step_, place_.lane);
    LaneRef<C> const ref(a_.ladder.geometry, a_.ladder.memory, where.sequence, where.lane);
    return ref.lane->mode == LaneMode::dense;
  }

  __device__ __forceinline__ void run() const {
    RankLadder<C> const& ladder = a_.ladder;
    s_.tiles.load(LadderLanes<C>{ladder.geometry, ladder.memory, step_}, place_.lane);
    s_.largest.clear();
    if (threadIdx.x == 0) {
      s_.attention = step_.attention[place_.lane];
    }
    __syncthreads();
    scan();
    arrive();
    exact_logits();
    barrier().wait(s_.arrived);
    refine();
    note_largest();
    barrier().meet();
    sum_weights(s_.tiles, plan(), place_, s_.masses);
    barrier().meet();
    find_scales(plan(), place_, s_.scales);
    s_.histogram.clear();
    make_masses<true>(s_.tiles, plan(), place_, s_.scales, &s_.histogram);
    if (barrier().is_last(s_.last)) {
      s_.rows.build(a_.masses.histograms[place_.lane], s_.building);
      ladder(place_.lane, s_.rows);
    }
  }

 private:
  [[nodiscard]] __device__ LaneBarrier barrier() const {
    return {a_.barriers + place_.lane, static_cast<std::uint32_t>(place_.blocks),
            place_.block == 0};
  }

  __device__ void arrive() const {
    std::uint32_t const arrived = barrier().arrive();
    if (threadIdx.x == 0) {
      s_.arrived = arrived;
    }
  }

  [[nodiscard]] __device__ int heads() const { return a_.masses.heads; }

  /// With what is the same in all caches, so that the compiler knows.
  [[nodiscard]] __device__ MassPlan plan() const {
    static_assert(C::page == 1);
    MassPlan plan = a_.masses;
    plan.page_shift = 0;
    plan.known_keys = nullptr;
    plan.lse = nullptr;
    return plan;
  }

  /// Logits of all digests.
  __device__ __forceinline__ void scan() const {
    DigestLane const lane = step_.scans[place_.lane];
    auto const blocks = static_cast<unsigned>(place_.blocks);
    unsigned const first = static_cast<unsigned>(place_.block) * rank_warps + warp_index();
    LargestFrozen note(s_.tiles.run(LaneRuns::digests).states, s_.largest);
    int const dim = a_.exact.dim;
    if (heads() <= 2) {
      scan_groups<Digest, 1>(lane, first, lane.count, blocks * rank_warps, memory_, heads(), dim,
                             note);
    } else if (heads() <= 4) {
      scan_groups<Digest, 2>(lane, first, lane.count, blocks * rank_warps, memory_, heads(), dim,
                             note);
    } else {
      scan_groups<Digest, 4>(lane, first, lane.count, blocks * rank_warps, memory_, heads(), dim,
                             note);
    }
  }

  /// Logits of the exact rows, of which each block has a part.
  __device__ __forceinline__ void exact_logits() const {
    std::uint32_t const rows = step_.ranked_rows[place_.lane];
    std::uint32_t const tiles = logit_tiles<Tiles>(rows);
    auto const blocks = static_cast<std::uint32_t>(place_.blocks);
    auto const block = static_cast<std::uint32_t>(place_.block);
    TileCuts const cuts{blocks, tiles / blocks, tiles % blocks};
    std::uint32_t const begin = cuts.begin(block);
    std::uint32_t const end = cuts.begin(block + 1);
    if (warp_index() >= Tiles::Sizes::warps || begin == end) {
      return;
    }
    float const* const q = a_.exact.q + static_cast<std::size_t>(place_.lane) *
                                            static_cast<std::size_t>(heads() * a_.exact.dim);
    LogitArguments arguments = a_.exact;
    arguments.octaves = 1.0F;  // as the queries are already
#pragma unroll 1
    for (int pass = 0; pass < a_.passes; ++pass) {
      AttentionWarp const warp(a_.exact.group, a_.exact.heads, a_.exact.head_groups, pass);
      float largest = minus_infinity();
      store_logits<Tiles>(s_.attention, arguments, warp, q, memory_, begin, end, rows,
                          [&](unsigned, float logit) { largest = fmaxf(largest, logit); });
      s_.largest.note(static_cast<int>(warp.heads.first + warp_thread() % warp_heads), largest);
    }
  }

  /// Logits of the pools' rows: the digests', with the lower bits of their keys.
  __device__ __forceinline__ void refine() const {
    auto* const queries = reinterpret_cast<float*>(memory_);
    int const dim = a_.exact.dim;
    float const* const q = a_.exact.q + static_cast<std::size_t>(place_.lane) *
                                            static_cast<std::size_t>(heads() * dim);
    for (int head = 0; head < heads(); head += refine_heads) {
      int const some = min(heads() - head, refine_heads);
      if (head > 0) {
        __syncthreads();  // the heads before are done
      }
      stage_queries(q + head * dim, some, refine_heads, dim, queries);
      __syncthreads();
      float largest[refine_heads];
#pragma unroll
      for (float& x : largest) {
        x = minus_infinity();
      }
      unsigned const warp = static_cast<unsigned>(place_.block) * rank_warps + warp_index();
      refine_level(warp, queries, head, some, largest);
#pragma unroll
      for (int h = 0; h < refine_heads; ++h) {
        s_.largest.note(head + h, largest[h]);
      }
    }
  }

  /// The warp's share of the rows of a level and those above it, 32 at a time.
  /// @param part 32 rows of the level, the warp's first
  template <int Level = 0>
  __device__ void refine_level(unsigned part, float const* queries, int head, int some,
                               float (&largest)[refine_heads]) const {
    if constexpr (Level < C::levels) {
      constexpr int residual = C::template key_residual<Level>;
      RefineLane const lane = step_.refinements[Level * step_.lanes + place_.lane];
      unsigned const parts = (lane.count + 31) / 32;
      auto const note = [&](int h, float logit) { largest[h] = fmaxf(largest[h], logit); };
      for (; part < parts; part += static_cast<unsigned>(place_.blocks) * rank_warps) {
        if constexpr (residual > 0) {
          static_assert(WarpRefine<Digest, residual>::heads == refine_heads);
          RowsToRefine<Digest, residual> const rows(
              lane,
              memory_ + 4 * refine_heads * query_line(a_.exact.dim) +
                  warp_index() * static_cast<unsigned>(refine_warp_bytes<C>(a_.exact.dim)),
              32 * part, a_.exact.dim);
          rows.run(queries, head, some, note);
          __syncwarp();  // the codes are read
        } else {
          gather_logits(lane, 32 * part + threadIdx.x % 32, head, some, note);
        }
      }
      refine_level<Level + 1>(part - parts, queries, head, some, largest);
    }
  }

  /// The digests' logits of a row, where the pool holds no key bits.
  template <class Note>
  static __device__ void gather_logits(RefineLane const& lane, unsigned i, int head, int some,
                                       Note const& note) {
    if (i >= lane.count) {
      return;
    }
    float const* const from = global(lane.screen) +
                              static_cast<std::ptrdiff_t>(head) * lane.screen_stride +
                              global(lane.rows)[i];
    float* const to = global(lane.logits) + static_cast<std::ptrdiff_t>(head) * lane.stride + i;
#pragma unroll
    for (int h = 0; h < refine_heads; ++h) {
      if (h < some) {
        float const logit = __ldcg(from + static_cast<std::ptrdiff_t>(h) * lane.screen_stride);
        to[static_cast<std::ptrdiff_t>(h) * lane.stride] = logit;
        note(h, logit);
      }
    }
  }

  /// The block's largest logits, for all of the lane's; and an empty histogram.
  __device__ void note_largest() const {
    __syncthreads();
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < heads()) {
      a_.masses.keys[result_of(place_, place_.lane * heads() + thread, place_.block)] =
          s_.largest.keys[thread];
    }
    if (place_.block == 0) {
      clear_histogram(a_.masses, place_);
    }
  }

  RankArguments<C> const& a_;
  LayerStep<C> const& step_;
  LanePlace const& place_;
  RankStorage<C>& s_;
  std::byte* memory_;
};

}  // namespace kvfreeze::gpu::detail
