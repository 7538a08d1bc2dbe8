#pragma once

/// @file
/// @brief From a lane's queries to what becomes of its rows, by some blocks together: logits, their
/// softmax, the ladder's decisions.

#include <kvfreeze/gpu/detail/digest_scan_kernels.cuh>
#include <kvfreeze/gpu/detail/lane_barrier.cuh>
#include <kvfreeze/gpu/detail/rank_arguments.cuh>
#include <kvfreeze/gpu/detail/rank_scan.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief One lane, by one of its blocks. Every function is called by all threads.
template <class C, int Dim>
class RankLane {
  using Digest = typename C::Digest;
  using Tiles = LogitTiles<typename LayerStep<C>::Lane, Dim>;

 public:
  /// Shared memory of a block beside RankStorage, in bytes.
  static constexpr std::size_t shared_bytes(int heads, int dim) {
    int const pairs = scanned_pairs<C>(heads);
    std::size_t const scan = pairs == 1   ? scan_bytes<1>(dim)
                             : pairs == 2 ? scan_bytes<2>(dim)
                                          : scan_bytes<4>(dim);
    return scan > Tiles::Sizes::ring_bytes ? scan : Tiles::Sizes::ring_bytes;
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
    s_.scanned.largest.clear();
    hear_attention(0);
    list_codes();
    if constexpr (C::span > 1) {
      spans().clear(place_);
    }
    arrive();
    exact_logits();
    barrier().wait(threadIdx.x == 0 ? s_.arrived : 0U);
    scan();
    note_largest();
    barrier().meet();
    sum_weights(s_.tiles, plan(), place_, s_.masses);
    barrier().meet();
    find_scales(plan(), place_, s_.scales);
    s_.histogram.clear();
    if constexpr (C::span == 1) {
      make_masses<true>(s_.tiles, plan(), place_, s_.scales, &s_.histogram);
    } else {
      make_masses<false>(s_.tiles, plan(), place_, s_.scales, nullptr);
      spans().add(s_.tiles, place_);
      barrier().meet();
      spans().share(s_.tiles, place_, s_.histogram, a_.masses.histograms[place_.lane]);
    }
    if (barrier().elects(s_.last)) {
      s_.rows.build(a_.masses.histograms[place_.lane], s_.building);
      ladder.decide(place_.lane, s_.rows, s_.ladder);
    }
    barrier().meet();
    ladder.mark(place_.lane, place_, s_.ladder);
    if (barrier().is_last(s_.last)) {
      ladder.move(place_.lane, s_.ladder);
    }
  }

 private:
  [[nodiscard]] __device__ LaneBarrier barrier() const { return lane_barrier(a_.barriers, place_); }

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
    plan.entropies = nullptr;
    return plan;
  }

  [[nodiscard]] __device__ SpanMasses<C::span> spans() const {
    WorkLane const where(a_.ladder.geometry, step_, place_.lane);
    LaneRef<C> const ref(a_.ladder.geometry, a_.ladder.memory, where.sequence, where.lane);
    LaneRuns const runs = lane_runs(ref, step_, place_.lane);
    return {a_.span_masses + static_cast<std::ptrdiff_t>(place_.lane) * step_.digest_rows / C::span,
            runs.rows[LaneRuns::digests], runs.masses, runs.granules};
  }

  /// Shared memory of scan().
  template <int Pairs>
  static constexpr std::size_t scan_bytes(int dim) {
    return digest_scan_bytes<Digest>(rank_warps, Pairs, dim) +
           static_cast<std::size_t>(rank_warps * RankNote<C, 2 * Pairs>::bytes(dim));
  }

  /// The pools, granules of their rows, and where each of these has its code. By all blocks of the
  /// lane.
  __device__ void list_codes() const {
    WorkLane const where(a_.ladder.geometry, step_, place_.lane);
    LaneRef<C> const ref(a_.ladder.geometry, a_.ladder.memory, where.sequence, where.lane);
    LaneRuns const runs = lane_runs(ref, step_, place_.lane);
#pragma unroll
    for (int level = 0; level < C::levels; ++level) {
      int const run = LaneRuns::pool(level);
      if (threadIdx.x == 0) {
        CodePages const pages = residual_pages(ref, level);
        s_.scanned.pools[level] = {pages, pages.per_page * pages.item_bytes,
                                   runs.first_coded(level)};
        s_.scanned.coded = runs.coded;
      }
      for (int i = place_.block * rank_tile + 4 * static_cast<int>(threadIdx.x); i < runs.rows[run];
           i += place_.blocks * rank_tile) {
        auto const slot = static_cast<std::uint32_t>(i);
        int const n = min(runs.rows[run] - i, 4);
        std::uint32_t granules[4];
        load_four(&ref.code(level, slot).granule(), n, 0U, granules);
        store_four(runs.granules + runs.begin[run] + i, granules, n);
#pragma unroll
        for (unsigned j = 0; j < 4; ++j) {
          if (static_cast<int>(j) < n) {
            CodePlace const place{slot + j, static_cast<std::uint32_t>(level)};
            runs.granules[granules[j]] = place.word();
          }
        }
      }
    }
  }

  /// KV heads of the lane.
  [[nodiscard]] __device__ int kv_heads() const { return C::by_layer ? step_.heads : 1; }

  /// A KV head among those of all lanes.
  [[nodiscard]] __device__ int numbered(int kv_head) const {
    return place_.lane * kv_heads() + kv_head;
  }

  /// Logits of all digests and of the pools' rows.
  __device__ __forceinline__ void scan() const {
#pragma unroll 1
    for (int kv_head = 0; kv_head < kv_heads(); ++kv_head) {
      if (kv_head > 0) {
        __syncthreads();  // all are done with the queries of the one before
      }
      with_scanned_pairs<C>(a_.exact.group, [&]<int Pairs>() { scan_pairs<Pairs>(kv_head); });
    }
  }

  template <int Pairs>
  __device__ __forceinline__ void scan_pairs(int kv_head) const {
    auto const blocks = static_cast<unsigned>(place_.blocks);
    unsigned const first = static_cast<unsigned>(place_.block) * rank_warps + warp_index();
    int const dim = a_.exact.dim;
    if (threadIdx.x == 0) {
      s_.scanned.states = s_.tiles.run(LaneRuns::digests).states;
      s_.scanned.places = step_.granules + static_cast<std::ptrdiff_t>(place_.lane) * step_.stride;
      s_.scanned.digests = step_.scans[numbered(kv_head)];
      s_.scanned.kv_head = kv_head;
      s_.scanned.first_query = kv_head * a_.exact.group;
      s_.scanned.queries = heads();
    }
    __syncthreads();
    using Note = RankNote<C, 2 * Pairs>;
    Note note(s_.scanned, memory_ + digest_scan_bytes<Digest>(rank_warps, Pairs, dim) +
                              warp_index() * static_cast<unsigned>(Note::bytes(dim)));
    DigestLane const& digests = s_.scanned.digests;
    scan_groups<Digest, Pairs>(digests, first, digests.count, blocks * rank_warps, memory_,
                               a_.exact.group, dim, note);
  }

  /// What is known of a KV head's exact rows. By all threads.
  __device__ void hear_attention(int kv_head) const {
    if (threadIdx.x == 0) {
      s_.attention = step_.attention[numbered(kv_head)];
    }
    __syncthreads();
  }

  /// Logits of the exact rows, of which each block has a part.
  __device__ __forceinline__ void exact_logits() const {
    exact_logits(0);
#pragma unroll 1
    for (int kv_head = 1; kv_head < kv_heads(); ++kv_head) {
      __syncthreads();  // all are done with the one before
      hear_attention(kv_head);
      exact_logits(kv_head);
    }
  }

  __device__ __forceinline__ void exact_logits(int kv_head) const {
    std::uint32_t const rows = step_.ranked_rows[numbered(kv_head)];
    float const* const q = a_.exact.q + static_cast<std::size_t>(numbered(kv_head)) *
                                            static_cast<std::size_t>(a_.exact.group * a_.exact.dim);
    int const before = kv_head * a_.exact.group;
    LogitArguments arguments = a_.exact;
    arguments.octaves = 1.0F;  // as the queries are already
    for_each_pass<Tiles>(
        a_.exact, place_, rows,
        [&](AttentionWarp const& warp, std::uint32_t begin, std::uint32_t end) {
          float largest = minus_infinity();
          store_logits<Tiles>(s_.attention, arguments, warp, q, memory_, begin, end, rows,
                              [&](unsigned, float logit) { largest = fmaxf(largest, logit); });
          s_.scanned.largest.note(
              before + static_cast<int>(warp.heads.first + warp_thread() % warp_heads), largest);
        });
  }

  /// The block's largest logits, for all of the lane's; and an empty histogram.
  __device__ void note_largest() const {
    __syncthreads();
    int const thread = static_cast<int>(threadIdx.x);
    if (thread < heads()) {
      a_.masses.keys[result_of(place_, place_.lane * heads() + thread, place_.block)] =
          s_.scanned.largest.keys[thread];
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
