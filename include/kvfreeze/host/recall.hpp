#pragma once

#include <kvfreeze/host/append.hpp>
#include <kvfreeze/host/choose.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/make_room.hpp>
#include <kvfreeze/host/query_window.hpp>
#include <kvfreeze/host/timers.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvfreeze::host {

inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

/// Flags of a granule while a selection is carried out.
struct Pick {
  static constexpr std::uint8_t candidate = 1;
  static constexpr std::uint8_t wanted = 2;
  static constexpr std::uint8_t taken = 4;
};

/// Scales the lane's queries to octaves, into the scratch.
template <class C>
void load_queries(LaneJob<C> const& job, float const* q) noexcept {
  int const n = job.geometry().lane_queries * job.geometry().shape.head_dim;
  float const octaves = job.geometry().octaves;
  float* const out = job.scratch->query();
  for (int i = 0; i < n; ++i) {
    out[i] = q[i] * octaves;
  }
}

/// @brief Logits of all awake rows under the scratch's queries: by digest where a row has one, by
/// its key where it has none yet. Rows that are asleep or gone get minus infinity.
template <class C>
void estimate_logits(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  float* const logits = job.scratch->logits();
  std::ptrdiff_t const stride = job.scratch->stride();
  int const dim = g.shape.head_dim;
  constexpr int group_rows = C::Digest::group_rows;
  constexpr int group_granules = group_rows / C::page;
  for (int group = 0; group < ref.lane->groups; ++group) {
    std::uint32_t const first = static_cast<std::uint32_t>(group) * group_granules;
    int awake = group_granules;
    if constexpr (C::sleeps || C::discards) {
      awake = 0;
      for (std::uint32_t i = first; i < first + group_granules; ++i) {
        Fidelity const f = ref.fidelity(i);
        awake += f == Fidelity::exact || f == Fidelity::frozen ? 1 : 0;
      }
    }
    float* const at = logits + static_cast<std::ptrdiff_t>(group) * group_rows;
    if (awake > 0) {
      for (int head = 0; head < g.heads_per_lane; ++head) {
        DigestQuery const query{
            job.scratch->query() + static_cast<std::ptrdiff_t>(head) * g.group * dim, g.group, dim};
        C::Digest::scan(query, ref.digest(group, head),
                        at + static_cast<std::ptrdiff_t>(head) * g.group * stride, stride);
      }
      ref.lane->touched += g.digest_group_bytes;
    }
    if (awake < group_granules) {
      for (int i = 0; i < group_granules; ++i) {
        Fidelity const f = ref.fidelity(first + static_cast<std::uint32_t>(i));
        if (f == Fidelity::exact || f == Fidelity::frozen) {
          continue;
        }
        for (int h = 0; h < g.lane_queries; ++h) {
          std::fill_n(at + h * stride + static_cast<std::ptrdiff_t>(i) * g.page, g.page,
                      minus_infinity);
        }
      }
    }
  }
  auto const end = static_cast<std::uint32_t>(ref.granules());
  for (auto granule = static_cast<std::uint32_t>(ref.tail_begin()); granule < end; ++granule) {
    std::uint32_t const slot = tail_slot(ref, granule);
    int const row0 = static_cast<int>(granule) * g.page;
    for (int row = 0; row < ref.rows_of(granule); ++row) {
      for (int h = 0; h < g.lane_queries; ++h) {
        float& logit = logits[h * stride + row0 + row];
        if (slot == no_slot) {
          logit = minus_infinity;
          continue;
        }
        auto const* const key = ref.k(slot) + static_cast<std::ptrdiff_t>(row) * g.row_elements +
                                static_cast<std::ptrdiff_t>(h / g.group) * dim;
        logit = dot(job.scratch->query() + static_cast<std::ptrdiff_t>(h) * dim, key, dim);
      }
    }
  }
}

/// @brief Instant evidence of each granule from estimated logits: masses (always, for the missed
/// mass) and the scores that recall selects by.
template <class C>
void estimate_scores(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  int const rows = ref.lane->rows;
  int const granules = ref.granules();
  float* const scores = scratch.scores();
  if constexpr (C::needs_queries) {
    // |q.k| under the current query alone, mean over heads, largest row of the granule.
    float const nats = 0.693147180559945309417F / static_cast<float>(g.lane_queries);
    for (int granule = 0; granule < granules; ++granule) {
      float best = 0.0F;
      for (int row = granule * g.page; row < std::min(rows, (granule + 1) * g.page); ++row) {
        float sum = 0.0F;
        for (int h = 0; h < g.lane_queries; ++h) {
          float const logit = scratch.logits()[h * scratch.stride() + row];
          sum += logit == minus_infinity ? 0.0F : std::fabs(logit);
        }
        best = std::max(best, sum * nats);
      }
      scores[granule] = best;
    }
  }
  softmax_masses(scratch.logits(), scratch.stride(), g.lane_queries, rows, scratch.masses(),
                 nullptr);
  if constexpr (C::page > 1) {
    std::uint32_t* const mass = scratch.masses();
    for (int granule = 0; granule < granules; ++granule) {
      std::uint32_t sum = 0;
      for (int row = granule * g.page; row < std::min(rows, (granule + 1) * g.page); ++row) {
        sum += mass[row];
      }
      mass[granule] = sum;  // granule <= row: already read
    }
  }
  if constexpr (!C::needs_queries) {
    for (int granule = 0; granule < granules; ++granule) {
      scores[granule] = static_cast<float>(scratch.masses()[granule]) * mass_unit;
    }
  }
}

/// What the scheduler is told of a lane.
template <class C>
LaneFacts lane_facts(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  auto const open = ref.open_range();
  LaneFacts facts;
  facts.layer = job.layer;
  facts.head = job.head;
  facts.page_tokens = C::page;
  facts.granules = ref.granules();
  facts.exact = ref.lane->exact;
  facts.protected_granules = facts.granules - (open.high - open.low);
  if (!job.sequence->pins.empty()) {
    for (int granule = open.low; granule < open.high; ++granule) {
      facts.protected_granules +=
          (ref.state(static_cast<std::uint32_t>(granule)) & GranuleState::pinned) != 0 ? 1 : 0;
    }
  }
  if constexpr (!C::in_place) {
    facts.allowed = allowed_granules<C>(job.geometry(), ref.lane->budget, ref.lane->rows);
  }
  facts.water_level = job.sequence->water_level;
  facts.step = job.step();
  return facts;
}

/// A selection in terms of open granules: counts include the protected ones (scheduler's view).
inline Selection among_open(Selection selection, int protected_granules) noexcept {
  if (selection.kind == Selection::Kind::count) {
    selection.count = std::max(selection.count - protected_granules, 0);
  }
  return selection;
}

/// @brief Marks what this step wants exact. On return `flags[g]` has candidate and wanted bits.
/// @return wanted open granules; `deferred` counts those that the cap turned away
template <class C>
int mark_for_recall(LaneJob<C> const& job, LaneFacts const& facts) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  auto const open = ref.open_range();
  int const granules = facts.granules;
  std::uint8_t* const flags = scratch.flags();
  std::fill_n(flags, granules, std::uint8_t{0});
  ScoreHistogram histogram;
  int candidates = 0;
  Selection selection = among_open(job.context->scheduler.recall(facts), facts.protected_granules);
  bool const by_content =
      selection.kind != Selection::Kind::all && selection.kind != Selection::Kind::none;
  for (int granule = open.low; granule < open.high; ++granule) {
    std::uint8_t const state = ref.state(static_cast<std::uint32_t>(granule));
    Fidelity const f = GranuleState::fidelity(state);
    if ((f == Fidelity::exact || f == Fidelity::frozen) && (state & GranuleState::pinned) == 0) {
      flags[granule] = Pick::candidate;
      candidates += 1;
      if constexpr (C::has_digest) {
        histogram.add(scratch.scores()[granule]);
      }
    }
  }
  if (!C::has_digest && by_content) {
    selection = Selection::none();  // nothing is known of what is frozen
  }
  if constexpr (C::has_digest) {
    if (ref.lane->budget != unlimited &&
        kvfreeze::detail::base_level(job.context->scheduler) > 0.0F) {
      for (std::size_t i = 0; i < water_levels; ++i) {
        ref.lane->demand[i] =
            static_cast<std::uint32_t>(histogram.remaining_above_mass(job.context->levels[i]));
      }
    }
  }
  auto const mark = [&](Selection const& wish) {
    return mark_wanted(wish, histogram, scratch.scores(), flags, granules, Pick::candidate,
                       Pick::wanted);
  };
  int wanted = 0;
  if (selection.kind == Selection::Kind::all) {
    for (int granule = open.low; granule < open.high; ++granule) {
      flags[granule] |= (flags[granule] & Pick::candidate) != 0 ? Pick::wanted : 0;
    }
    wanted = candidates;
  } else if (selection.kind != Selection::Kind::none) {
    wanted = mark(selection);
  }
  int const room = std::max(facts.allowed - facts.protected_granules, 0);
  ref.lane->over_cap = wanted > room;
  if (wanted > room) {
    ref.lane->deferred += static_cast<std::uint32_t>(wanted - room);
    for (int granule = open.low; granule < open.high; ++granule) {
      flags[granule] &= static_cast<std::uint8_t>(~Pick::wanted);
    }
    if constexpr (C::has_digest) {
      wanted = mark(Selection::highest(room));
    } else {
      wanted = 0;
      for (int granule = open.high - 1; granule >= open.low && wanted < room; --granule) {
        if ((flags[granule] & Pick::candidate) != 0) {
          flags[granule] |= Pick::wanted;
          wanted += 1;
        }
      }
    }
  }
  return wanted;
}

/// @brief Lists the frozen granules to thaw now, at most `limit`: forced ones, then those carried
/// over from earlier steps, then the highest scores. The others that are wanted are carried over.
template <class C>
int list_thaws(LaneJob<C> const& job, LaneFacts const& facts, int limit) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  std::uint8_t* const flags = scratch.flags();
  std::uint32_t* const list = scratch.list();
  auto const granules = static_cast<std::uint32_t>(facts.granules);
  int count = 0;
  int rest = 0;
  ScoreHistogram histogram;
  // Flags: a first pass takes what is in line, a second one chooses among the rest.
  for (std::uint32_t granule = 0; granule < granules; ++granule) {
    std::uint8_t const state = ref.state(granule);
    if (GranuleState::fidelity(state) != Fidelity::frozen) {
      continue;
    }
    bool const forced = (state & (GranuleState::forced | GranuleState::pinned)) != 0;
    bool const wanted = (flags[granule] & Pick::wanted) != 0;
    if (!forced && !wanted) {
      continue;
    }
    if ((forced || (state & GranuleState::carried) != 0) && count < limit) {
      list[count++] = granule;
      flags[granule] |= Pick::taken;
    } else {
      rest += 1;
      if constexpr (C::has_digest) {
        histogram.add(scratch.scores()[granule]);
      }
    }
  }
  if (rest == 0) {
    return count;
  }
  auto const cutoff = histogram.highest(limit - count);
  int ties = C::has_digest ? cutoff.ties : limit - count;
  for (std::uint32_t granule = 0; granule < granules; ++granule) {
    auto& state = ref.state(granule);
    if (GranuleState::fidelity(state) != Fidelity::frozen || (flags[granule] & Pick::taken) != 0 ||
        ((flags[granule] & Pick::wanted) == 0 &&
         (state & (GranuleState::forced | GranuleState::pinned)) == 0)) {
      continue;
    }
    int const bin = C::has_digest ? ScoreHistogram::bin(scratch.scores()[granule]) : cutoff.bin;
    bool take = C::has_digest && bin > cutoff.bin;
    if (!take && bin == cutoff.bin && ties > 0) {
      take = true;
      ties -= 1;
    }
    if (take && count < limit) {
      list[count++] = granule;
      state = static_cast<std::uint8_t>(state & ~GranuleState::carried);
    } else {
      state |= GranuleState::carried;
      ref.lane->deferred += 1;
    }
  }
  return count;
}

/// Evidence of one granule, as far as recall knows it.
template <class C>
RowEvidence recall_evidence(LaneJob<C> const& job, std::uint32_t granule) noexcept {
  RowEvidence row;
  row.position = static_cast<std::int32_t>(granule) * C::page;
  row.age = job.ref.lane->rows - 1 - row.position;
  row.step = job.step();
  if constexpr (C::has_digest) {
    row.mass = static_cast<float>(job.scratch->masses()[granule]) * mass_unit;
  }
  return row;
}

/// @brief Before attention: what does the current query need, and is it here?
///
/// Wakes what is due, estimates every awake row, thaws what is wanted within the transfer budget
/// and the cap, and notes the mass that stays missing.
/// @param q the lane's queries, [lane_queries][head_dim]
template <class C>
void recall_lane(LaneJob<C> const& job, float const* q) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Scratch& scratch = *job.scratch;
  std::uint32_t const step = job.step();
  load_queries(job, q);
  if (lane.ready == lane.rows) {
    return;  // a repeated call of the same step
  }
  note_cosine(job);
  wake_due(ref, step);
  int const granules = ref.granules();
  int const absent = granules - lane.exact;
  // With nothing frozen a scan only serves a scorer's memory and the cap's demand.
  bool const scan = C::has_digest && (absent > lane.evicted || C::has_state ||
                                      lane.rows > job.geometry().limits.window);
  if constexpr (C::has_digest) {
    if (scan) {
      estimate_logits(job);
      estimate_scores(job);
    }
  }
  LaneFacts const facts = lane_facts(job);
  if (C::has_digest && !scan) {
    lane.ready = lane.rows;
    return;
  }
  mark_for_recall(job, facts);
  std::uint8_t const* const flags = scratch.flags();
  if constexpr (C::has_digest) {
    auto const stamp = static_cast<std::uint16_t>(step);
    ref.for_each_exact([&](std::uint32_t slot, std::uint32_t granule) {
      SlotRecord& record = ref.record(slot);
      if ((flags[granule] & Pick::wanted) != 0) {
        record.stamp = stamp;
      }
      if constexpr (C::needs_mass) {
        record.value = from_float<BFloat16>(scratch.scores()[granule]).bits;
      }
    });
  }
  if (absent > lane.evicted) {
    std::size_t const each = C::in_place ? 1 : job.geometry().granule_bytes();
    int const affordable = lane.transfer_left == unlimited || C::in_place
                               ? std::numeric_limits<int>::max()
                               : static_cast<int>(lane.transfer_left / each);
    int count = list_thaws(job, facts, affordable);
    if (lane.exact + count > facts.allowed) {
      make_room(job, lane.exact + count - facts.allowed, Victims::unwanted);
      int const fits = std::max(facts.allowed - lane.exact, 0);
      lane.deferred += static_cast<std::uint32_t>(std::max(count - fits, 0));
      count = std::min(count, fits);
    }
    int const first = lane.slots;
    thaw_granules(job.context->memory, ref, job.context->tier, scratch, scratch.list(), count,
                  step);
    for (int i = 0; i < count; ++i) {
      std::uint32_t const granule = scratch.list()[i];
      auto const slot = C::in_place ? granule : static_cast<std::uint32_t>(first + i);
      rebuild_sums(job, slot);
      if constexpr (C::needs_mass && C::has_digest) {
        ref.record(slot).value = from_float<BFloat16>(scratch.scores()[granule]).bits;
      }
    }
    std::uint64_t missed = 0;
    for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(granules); ++granule) {
      if (ref.fidelity(granule) != Fidelity::frozen) {
        continue;
      }
      if constexpr (C::has_digest) {
        missed += scratch.masses()[granule];
      }
      if constexpr (C::sleeps) {
        if ((flags[granule] & (Pick::candidate | Pick::wanted)) == Pick::candidate) {
          int const sleep = detect(ref, job.context->scheduler, granule, true, step);
          if (sleep > 0) {
            fall_asleep(ref, granule, step + static_cast<std::uint32_t>(sleep));
          }
        }
      }
    }
    lane.missed = static_cast<float>(missed) * mass_unit;
  }
  if constexpr (C::has_state && C::needs_mass && C::has_digest) {
    for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(granules); ++granule) {
      Fidelity const f = ref.fidelity(granule);
      if (f == Fidelity::exact || f == Fidelity::frozen) {
        job.context->scorer.update(ref.score(granule), recall_evidence(job, granule));
      }
    }
  }
  lane.ready = lane.rows;
}

}  // namespace kvfreeze::host
