#pragma once

#include <kvfreeze/host/kernels/prefill.hpp>
#include <kvfreeze/host/ladder_step.hpp>
#include <kvfreeze/host/observe.hpp>
#include <kvfreeze/host/truncate.hpp>

#include <algorithm>
#include <array>
#include <new>
#include <numeric>

namespace kvfreeze::host {

/// A chunk as the caller gives it; strides in floats from one token to the next.
struct Chunk {
  NewRows rows;
  float const* q = nullptr;  ///< the lane's queries of the first token
  float* out = nullptr;
  int query_stride = 0;
};

/// @brief Picks the frozen granules that this chunk reads from the tier: all, or as many as the
/// transfer budget pays for, those with the most mass under the chunk's last query first.
///
/// On return `wanted()[g]` is 1 for those that are read.
/// @param passes how often each of them is read
template <class C>
void pick_reads(LaneJob<C> const& job, float const* last_query, int passes) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  std::uint8_t* const flags = scratch.flags();
  int const granules = ref.granules();
  std::fill_n(flags, granules, std::uint8_t{0});
  std::size_t absent = 0;
  for (int granule = 0; granule < granules; ++granule) {
    Fidelity const f = ref.fidelity(static_cast<std::uint32_t>(granule));
    if (f == Fidelity::frozen || f == Fidelity::asleep || f == Fidelity::compact) {
      flags[granule] = 1;
      absent += 1;
    }
  }
  std::size_t const affordable =
      C::in_place || ref.lane->transfer_left == unlimited
          ? absent
          : std::min(absent, ref.lane->transfer_left / (job.geometry().granule_bytes() *
                                                        static_cast<std::size_t>(passes)));
  std::uint8_t* const wanted = scratch.wanted();
  if (absent == affordable) {
    std::copy_n(flags, granules, wanted);
    return;
  }
  auto const count = static_cast<std::size_t>(granules);
  std::uint32_t* scores = scratch.scores();
  if constexpr (C::has_digest) {
    load_queries(job, last_query);
    estimate_logits(job);
    estimate_scores(job);
    scores = recall_scores(job);
  } else {
    std::iota(scores, scores + granules, 0U);  // newest first
  }
  LogHistogram histogram;
  histogram.add(scores, flags, count);
  apply_cutoff(histogram.highest(static_cast<std::uint32_t>(affordable)), scores, flags, count,
               wanted);
  ref.lane->deferred += static_cast<std::uint32_t>(absent - affordable);
  if constexpr (C::has_digest) {
    std::uint64_t missed = 0;
    for (int granule = 0; granule < granules; ++granule) {
      missed += flags[granule] > wanted[granule] ? scratch.masses()[granule] : 0U;
    }
    ref.lane->missed = static_cast<float>(missed) * mass_unit;
  }
}

/// @brief Fills the scratch's tile with the rows at positions [first, first + 64) of one head,
/// frozen ones read through the tier. Returns the rows that are there.
///
/// @param map granule -> slot, for the whole lane
/// @throws TierError whatever the tier throws
template <class C>
int fill_tile(LaneJob<C> const& job, int first, int head, std::uint32_t const* map) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  auto const dim = static_cast<std::size_t>(g.shape.head_dim);
  int const last = std::min(first + prefill_rows, ref.lane->rows);
  auto const begin = static_cast<std::uint32_t>(first / C::page);
  auto const end = static_cast<std::uint32_t>(ceil_div(last, C::page));
  std::array<typename C::Value const*, prefill_rows> keys{};
  std::array<typename C::Value const*, prefill_rows> values{};
  std::size_t reads = 0;
  for (std::uint32_t granule = begin; granule < end; ++granule) {
    auto const i = granule - begin;
    if (map[granule] != no_slot) {
      keys[i] = ref.k(map[granule]);
      values[i] = ref.v(map[granule]);
    } else if (scratch.wanted()[granule] != 0) {
      if constexpr (C::in_place) {
        keys[i] = ref.k(granule);
        values[i] = ref.v(granule);
      } else {
        std::byte* const k = scratch.loaded() + reads * g.granule_bytes();
        std::byte* const v = k + g.part_bytes;
        ::new (scratch.loads() + reads++)
            LoadRequest{ref.key(granule), {k, g.part_bytes}, {v, g.part_bytes}};
        keys[i] = reinterpret_cast<typename C::Value const*>(k);
        values[i] = reinterpret_cast<typename C::Value const*>(v);
      }
    }
  }
  if (reads > 0) {
    job.context->tier.load({scratch.loads(), reads});
    pay_transfer(ref, reads * g.granule_bytes(), ref.lane->moved_in);
  }
  int count = 0;
  for (int position = first; position < last; ++position) {
    auto const i = static_cast<std::uint32_t>(position / C::page) - begin;
    if (keys[i] == nullptr) {
      continue;
    }
    std::ptrdiff_t const at = static_cast<std::ptrdiff_t>(position % C::page) * g.row_elements +
                              static_cast<std::ptrdiff_t>(head) * g.shape.head_dim;
    to_floats(keys[i] + at, scratch.tile_k() + static_cast<std::size_t>(count) * dim, dim);
    to_floats(values[i] + at, scratch.tile_v() + static_cast<std::size_t>(count) * dim, dim);
    scratch.tile_positions()[count++] = position;
  }
  return count;
}

/// @brief Attention of the chunk's tokens [first, first + count), which are the lane's newest rows.
/// Causal; every row takes part, frozen ones through the tier.
template <class C>
void attend_chunk(LaneJob<C> const& job, Chunk const& chunk, int first, int count) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  int const dim = g.shape.head_dim;
  int const base = ref.lane->rows - count;
  pick_reads(job, chunk.q + static_cast<std::ptrdiff_t>(first + count - 1) * chunk.query_stride,
             ceil_div(count, prefill_queries) * g.heads_per_lane);
  std::uint32_t* const map = scratch.slots();
  ref.map_slots(0, static_cast<std::uint32_t>(ref.granules()), map);
  std::array<OnlineSoftmax, prefill_queries> states{};
  int const width = g.group * dim;
  for (int block = 0; block < count; block += prefill_queries) {
    int const queries = std::min(prefill_queries, count - block);
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const column = static_cast<std::ptrdiff_t>(head) * width;
      for (int i = 0; i < queries; ++i) {
        float const* const q =
            chunk.q + static_cast<std::ptrdiff_t>(first + block + i) * chunk.query_stride + column;
        float* const scaled = scratch.prefill_query() + static_cast<std::ptrdiff_t>(i) * width;
        for (int d = 0; d < width; ++d) {
          scaled[d] = q[d] * g.octaves;
        }
        auto& state = states[static_cast<std::size_t>(i)];
        state = {g.group, dim, scratch.prefill_max() + static_cast<std::ptrdiff_t>(i) * g.group,
                 scratch.prefill_sum() + static_cast<std::ptrdiff_t>(i) * g.group,
                 scratch.prefill_out() + static_cast<std::ptrdiff_t>(i) * width};
        state.reset();
      }
      for (int tile = 0; tile < base + block + queries; tile += prefill_rows) {
        int const rows = fill_tile(job, tile, head, map);
        PrefillTile const rows_here{scratch.tile_k(), scratch.tile_v(), rows,
                                    scratch.tile_positions()};
        attend_tile(rows_here, scratch.prefill_query(), width, queries, base + block,
                    states.data());
        ref.lane->touched +=
            static_cast<std::size_t>(rows) * 2U * static_cast<std::size_t>(dim) * g.element_bytes;
      }
      for (int i = 0; i < queries; ++i) {
        states[static_cast<std::size_t>(i)].finish(
            chunk.out + static_cast<std::ptrdiff_t>(first + block + i) * chunk.query_stride +
                column,
            nullptr);
      }
    }
  }
}

/// Logits of rows from position `seen` on, which a query of the chunk does not see, go away.
template <class C>
void hide_later_rows(LaneJob<C> const& job, int seen) noexcept {
  Scratch& scratch = *job.scratch;
  int const rows = job.ref.lane->rows;
  for (int h = 0; h < job.geometry().lane_queries; ++h) {
    std::fill(scratch.logits() + h * scratch.stride() + seen,
              scratch.logits() + h * scratch.stride() + rows, minus_infinity);
  }
}

/// First token of a chunk whose query gives evidence.
template <class C>
int first_vote(LaneJob<C> const& job, int tokens) noexcept {
  return std::max(tokens - std::max(kvfreeze::detail::prompt_queries(job.context->scorer), 1), 0);
}

/// What the chunk's last queries want, by digest; their masses are evidence.
/// @param query query(i): the lane's queries of the chunk's i-th token
template <class C, class Query>
void vote_by_digest(LaneJob<C> const& job, int tokens, Query&& query) {
  LaneRef<C> const& ref = job.ref;
  for (int i = first_vote(job, tokens); i < tokens; ++i) {
    load_queries(job, query(i));
    estimate_logits(job);
    hide_later_rows(job, ref.lane->rows - tokens + i + 1);
    estimate_scores(job);
    load_states(job);
    stamp_wanted(job, mark_for_recall(job, lane_facts(job)));
    if constexpr (C::has_state && C::needs_mass) {
      ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
        job.context->scorer.update(ref.score(granule, slot), recall_evidence(job, granule));
      });
    }
  }
}

/// Evidence of the chunk's last queries from the exact rows' keys, for caches whose digest does not
/// give it.
template <class C, class Query>
void vote_by_keys(LaneJob<C> const& job, int tokens, Query&& query) noexcept {
  Scratch& scratch = *job.scratch;
  int const first = wants_logits<C> ? first_vote(job, tokens) : tokens - 1;
  for (int i = first; i < tokens; ++i) {
    load_queries(job, query(i));
    RowList const list = list_rows(job, false);
    if constexpr (wants_logits<C>) {
      exact_logits(job, list);
      int const seen = job.ref.lane->rows - tokens + i + 1;
      for (int row = 0; i + 1 < tokens && row < list.count; ++row) {
        std::uint32_t const slot =
            list.slots != nullptr ? list.slots[row] : static_cast<std::uint32_t>(row);
        for (int h = 0; position_of(job.ref, slot) >= seen && h < job.geometry().lane_queries;
             ++h) {
          scratch.logits()[h * scratch.stride() + row] = minus_infinity;
        }
      }
    }
    observe_logits(job, list, scratch.logits(), scratch.stride());
  }
}

/// @brief What the chunk's last queries say about the exact rows.
template <class C>
void vote(LaneJob<C> const& job, Chunk const& chunk) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const tokens = chunk.rows.tokens;
  auto const query = [&](int token) {
    return chunk.q + static_cast<std::ptrdiff_t>(token) * chunk.query_stride;
  };
  if constexpr (C::has_levels) {
    settle_chunk(job, tokens, query);
  } else if constexpr (C::needs_queries) {
    int const pushes = std::min(tokens, g.window_queries);
    for (int i = tokens - pushes; i < tokens; ++i) {
      load_queries(job, query(i));
      push_query(job, ref.lane->rows - tokens + i);
    }
    std::uint32_t* const slots = job.scratch->slots();
    int exact = 0;
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t) { slots[exact++] = slot; });
    rebuild_sums(job, exact, [&](int i) { return slots[i]; });
    note_means(job);
  } else {
    if constexpr (C::has_digest) {
      vote_by_digest(job, tokens, query);
    }
    if constexpr (!(C::has_digest && C::needs_mass)) {
      vote_by_keys(job, tokens, query);
    }
  }
  ref.lane->ready = ref.lane->rows;
}

/// @brief Many tokens at once: append, attend to everything, let the last queries vote.
///
/// The chunk is taken in pieces that the lane's budget holds; what a piece needs from the tier is
/// read for it and dropped, so that prefill is exact and its memory bounded.
/// @throws CapacityError, TierError
template <class C>
void prefill_lane(LaneJob<C> const& job, Chunk const& chunk) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  wake_due(ref, job.step());
  job.scratch->commit_prefill();
  for (int first = 0; first < chunk.rows.tokens;) {
    int count = chunk.rows.tokens - first;
    if constexpr (!C::in_place) {
      if (ref.lane->budget != unlimited) {
        auto const open = ref.open_range();
        int kept = 0;
        ref.for_each_exact([&](std::uint32_t, std::uint32_t granule) {
          kept += ref.is_open(granule, open) ? 0 : 1;
        });
        int const allowed = allowed_granules(ref, ref.lane->budget, ref.lane->rows + count);
        count = std::clamp((allowed - kept - 1) * C::page, 1, count);
      }
      require_room(job, g.granules(ref.lane->rows + count) - ref.granules(),
                   ref.lane->rows + count);
    }
    append_rows(job, chunk.rows, first, count);
    attend_chunk(job, chunk, first, count);
    first += count;
  }
  vote(job, chunk);
}

}  // namespace kvfreeze::host
