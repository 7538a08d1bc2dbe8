#pragma once

/// @file
/// @brief A lane's rows as scan and attention are told of them.

#include <kvfreeze/gpu/detail/step.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Digest groups on their pages, of one of the lane's KV heads.
template <class C>
__device__ CodePages digests_on_pages(LaneRef<C> const& ref, int head = 0) {
  Geometry const& g = *ref.geometry;
  SegmentGeometry const& s = g.segment[digests_segment];
  return {ref.pages + static_cast<std::size_t>(head) * g.digest_bytes, ref.table + s.first_page,
          s.per_page, g.page_bytes, g.digest_group_bytes};
}

/// Rows that attention reads of a lane, for each of its KV heads. By one thread.
/// @param run 0: exact rows, 1: those of them whose logits are known
template <class C>
__device__ void note_attended(Geometry const& g, LayerStep<C> const& s, int work, int rows,
                              int run = 0) {
  for (int head = 0; head < g.heads_per_lane; ++head) {
    s.attended_rows(run, work, head) = static_cast<std::uint32_t>(rows);
  }
}

/// @brief What attention needs to know of a KV head's codes and means, from what it knows of the
/// first one's. By one thread.
template <class C, class Lane>
__device__ void describe_codes(Geometry const& g, LayerStep<C> const& s, Lane& attention, int work,
                               int head) {
  std::ptrdiff_t const queries = static_cast<std::ptrdiff_t>(head) * g.group;
  auto const number = static_cast<std::uint32_t>(head);
  for (int level = 0; level < C::levels; ++level) {
    ValueCodeRows& codes = attention.codes[level];
    std::uint32_t const before = number * codes.page_rows;
    codes.values += before * g.pool[level].value_bytes;
    codes.scales += before * static_cast<std::uint32_t>(sizeof(BFloat16));
    codes.logits += queries;
    s.attended_rows(2 + level, work, head) = s.attended_rows(2 + level, work, 0);
  }
  attention.means += static_cast<std::ptrdiff_t>(head) * g.head_dim;
  attention.absent += attention.absent != nullptr ? queries : 0;
  attention.highest += queries;
  s.attended_rows(1, work, head) = 0;
}

/// What a lane's other KV heads need to know beside the first one. By one thread.
template <class C>
__device__ void describe_heads(LaneRef<C> const& ref, LayerStep<C> const& s, int work) {
  Geometry const& g = *ref.geometry;
  int const first = work * g.heads_per_lane;
  for (int head = 1; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const logits = static_cast<std::ptrdiff_t>(head) * g.group * s.stride;
    DigestLane scan = s.scans[first];
    scan.groups = digests_on_pages(ref, head);
    scan.query += static_cast<std::ptrdiff_t>(head) * g.group * g.head_dim;
    scan.logits += logits;
    s.scans[first + head] = scan;
    typename LayerStep<C>::Lane attention = s.attention[first];
    attention.rows.k += static_cast<std::ptrdiff_t>(head) * g.head_dim;
    attention.rows.v += static_cast<std::ptrdiff_t>(head) * g.head_dim;
    attention.logits += attention.logits != nullptr ? logits : 0;
    if constexpr (C::has_levels) {
      describe_codes(g, s, attention, work, head);
    }
    s.attention[first + head] = attention;
    s.ranked_rows[first + head] = s.ranked_rows[first];
  }
}

/// Bytes of what a lane's step reads: its digests and exact keys to rank by, then what is attended.
/// @param attended exact rows, those that rise in this step included
template <class C>
__device__ std::uint64_t step_bytes(LaneRef<C> const& ref, bool ranks, int attended) {
  Geometry const& g = *ref.geometry;
  LaneState const& lane = *ref.lane;
  std::uint64_t bytes = static_cast<std::uint64_t>(attended) * 2 * g.row_bytes;
  if (!ranks) {
    return bytes;
  }
  bytes += static_cast<std::uint64_t>(lane.groups) * g.digest_group_bytes;
  for (int level = 0; level < C::levels; ++level) {
    PoolPage const& p = g.pool[level];
    bytes += static_cast<std::uint64_t>(lane.codes[level]) *
             (p.residual_bytes + p.value_bytes + sizeof(BFloat16)) *
             static_cast<std::uint64_t>(g.heads_per_lane);
  }
  return bytes;
}

/// @brief Writes what the step's kernels need to know of the lane. By the lane's block, when the
/// step's row is there and its mode is decided.
template <class C, int Threads>
__device__ void describe_lane(LaneRef<C> const& ref, LayerStep<C> const& s, int work) {
  Geometry const& g = *ref.geometry;
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  LaneRuns const runs = lane_runs(ref, s, work);
  bool const ranks = lane.mode != LaneMode::dense;
  if (C::has_levels && ranks) {
    for (int i = thread; i < runs.rows[LaneRuns::exact]; i += Threads) {
      runs.granules[runs.begin[LaneRuns::exact] + i] =
          ref.record(static_cast<std::uint32_t>(i)).granule;
    }
  }
  if (thread != 0) {
    return;
  }
  float* const query = s.queries + static_cast<std::ptrdiff_t>(work) * g.lane_queries * g.head_dim;
  auto const stride = static_cast<std::uint32_t>(s.stride);
  DigestLane scan;
  scan.groups = digests_on_pages(ref);
  scan.count = ranks ? static_cast<std::uint32_t>(lane.groups) : 0U;
  scan.stride = stride;
  scan.query = query;
  scan.logits = runs.logits;
  s.scans[work * g.heads_per_lane] = scan;
  typename LayerStep<C>::Lane attention;
  attention.rows.k = reinterpret_cast<typename C::Value const*>(ref.pages);
  attention.rows.v = reinterpret_cast<typename C::Value const*>(ref.pages + g.values_offset);
  attention.rows.slots = ref.list;
  attention.rows.slot_shift = static_cast<std::uint32_t>(page_shift(C::page));
  attention.rows.pages = ref.table + g.segment[rows_segment].first_page;
  attention.rows.page_elements = g.page_bytes / sizeof(typename C::Value);
  attention.rows.row_elements = static_cast<std::uint32_t>(g.row_elements);
  attention.rows.page_shift = 4;
  static_assert(page_rows == 16);
  attention.logits = C::has_levels     ? runs.logits + runs.begin[LaneRuns::exact]
                     : C::notes_masses ? runs.logits
                                       : nullptr;
  attention.stride = static_cast<std::size_t>(s.stride);
  attention.notes = C::notes_masses ? 1 : 0;  // ranking has what it needs of them
  if constexpr (C::levels > 0) {
    for (int level = 0; level < C::levels; ++level) {
      ValueCodeRows& codes = attention.codes[level];
      SegmentGeometry const& segment = g.segment[pool_segment(level)];
      codes.base = ref.pages;
      codes.pages = ref.table + segment.first_page;
      codes.page_bytes = g.page_bytes;
      codes.page_rows = segment.per_page;
      codes.values = g.pool[level].values;
      codes.scales = g.pool[level].scales;
      codes.logits = runs.coded.row(runs.first_coded(level));
      codes.stride = 1;
      codes.row_stride = runs.coded.width;
      s.attended_rows(2 + level, work, 0) =
          ranks ? static_cast<std::uint32_t>(lane.codes[level]) : 0U;
    }
    attention.means = ref.means;
    attention.absent =
        ranks && C::ranks ? s.absent + static_cast<std::ptrdiff_t>(work) * g.lane_queries : nullptr;
    attention.highest = s.highest + static_cast<std::ptrdiff_t>(work) * g.lane_queries;
    s.attended_rows(1, work, 0) = 0;
  }
  s.attention[work * g.heads_per_lane] = attention;
  int const rows = exact_rows<C>(lane);
  lane.touched = step_bytes(ref, ranks, rows);
  // Ranking overwrites these where rows rise.
  note_attended(g, s, work, rows);
  s.ranked_rows[work * g.heads_per_lane] = ranks ? static_cast<std::uint32_t>(lane.slots) : 0U;
  if constexpr (C::by_layer) {
    describe_heads(ref, s, work);
  }
  if constexpr (C::ranks) {
    s.work[work] = ranks ? rank_work(lane.groups, lane.slots, ref.compact()) : 0U;
  }
}

}  // namespace kvfreeze::gpu::detail
