#pragma once

/// @file
/// @brief The ladder's step of one lane, from the query to the output.

#include <kvfreeze/host/attend.hpp>
#include <kvfreeze/host/kernels/known_weights.hpp>
#include <kvfreeze/host/ladder.hpp>

#include <algorithm>
#include <array>
#include <exception>

namespace kvfreeze::host {

/// @brief Estimates every row of the lane under the scratch's queries and finds the cuts.
///
/// Afterwards the runs hold weights relative to `highest`, and masses by granule.
/// @param highest [lane_queries] largest logits, octaves
template <class C>
LadderStep<C> rank_rows(LaneJob<C> const& job, LaneFacts const& facts, bool everything,
                        float* highest) noexcept {
  load_states(job);
  LadderStep<C> step;
  step.runs = scan_lane(job);
  int const heads = job.geometry().lane_queries;
  largest_logits(step.runs.all(), heads, highest);
  softmax_masses(step.runs.all(), heads, nullptr, highest);
  for (int h = 0; h < heads; ++h) {
    LogitRun const& digests = step.runs.run[0];
    step.absent[static_cast<std::size_t>(h)] =
        sum_weights(digests.logits + h * digests.stride, digests.rows);
  }
  sum_granules(job, step.runs);
  protect_masses(job, step.runs);
  if (!everything) {
    step.cuts = find_cuts(job, step.runs, job.context->scheduler.rungs(facts));
  }
  step.known_exact = job.ref.lane->slots;
  for (std::size_t level = 0; level < C::levels; ++level) {
    step.known[level] = job.ref.lane->pools[level].slots;
  }
  return step;
}

/// Sinks on the fast clock: a tier that refuses rows leaves them exact, and advance() says so.
template <class C>
void sink_guarded(LaneJob<C> const& job, LadderStep<C>& step, int stay) {
  try {
    sink(job, step, stay);
  } catch (TierError const&) {
    job.lane().refused = true;
    job.scratch->failure = std::current_exception();
  }
}

/// @brief Looks whether the ladder would pay for a lane that is all exact: now and then as it
/// grows.
///
/// What it would hold is known from one ranking; what that costs, from benchmarks/growth
/// (head_dim 64, three heads, rows from memory), of which only the ratios matter: nanoseconds for a
/// ranked, a compact and an exact row, and for the lane itself, its risers included.
template <class C>
void look_at_cost(LaneJob<C> const& job, LaneFacts const& facts) noexcept {
  constexpr float ranked = 2.6F;
  constexpr float compact = 10.0F;
  constexpr float exact = 11.8F;
  constexpr float lane = 17500.0F;
  std::array<float, 512> highest;
  LadderStep<C> step = rank_rows(job, facts, false, highest.data());
  LadderSize<C> const size = ladder_wish(job, step, facts);
  auto const rows = static_cast<float>(facts.granules);
  float sum =
      lane / static_cast<float>(C::page) + ranked * rows + exact * static_cast<float>(size.exact);
  for (int const granules : size.compact) {
    sum += compact * static_cast<float>(granules);
  }
  job.lane().ladder_cost = sum / (exact * rows);
  int const held = job.lane().rows;
  job.lane().next_look = held + std::max(C::Digest::group_rows, held / 8);
}

/// @brief Raises the cuts until what they ask for fits the lane's aim.
template <class C>
void meet_aim(LaneJob<C> const& job, LadderStep<C>& step, LaneFacts facts) noexcept {
  Geometry const& g = job.geometry();
  std::size_t const room = ladder_room(job.ref, job.lane().aim);
  // Room for the rows to come stays free: a block of exact rows.
  std::size_t const least = g.blocks_bytes(1) + g.cards_bytes(1);
  std::size_t const usable = room > least ? room - least : 0;
  if (ladder_wish(job, step, facts).bytes(g) <= usable) {
    return;
  }
  job.lane().over_cap = true;
  note_ladder_demand(job, step.runs, facts);
  std::size_t level = 0;
  while (level + 1 < water_levels && job.lane().demand[level] > usable) {
    ++level;
  }
  facts.water_level = job.context->levels[level];
  step.cuts = find_cuts(job, step.runs, job.context->scheduler.rungs(facts));
}

/// Does the lane's budget hold what it has and `risers` more?
template <class C>
bool holds_risers(LaneJob<C> const& job, int risers) noexcept {
  auto size = LadderSize<C>::of(job.ref);
  std::array<int, exact_level<C> + 1> rising{};
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = job.scratch->slots()[i];
    rising[job.scratch->flags()[granule]] += 1;
    if (was_compact(job, granule)) {
      size.compact[job.scratch->list()[granule] >> place_bits] -= 1;
    }
  }
  size.exact += rising[static_cast<std::size_t>(exact_level<C>)];
  for (std::size_t level = 0; level < C::levels; ++level) {
    size.compact[level] += rising[level + 1];
  }
  return size.bytes(job.geometry()) <= ladder_room(job.ref, job.lane().budget);
}

/// Drops risers off the end of the list until the budget holds the others.
template <class C>
int fit_risers(LaneJob<C> const& job, int risers) noexcept {
  int const wanted = risers;
  while (risers > 0 && !holds_risers(job, risers)) {
    risers -= std::max(1, risers / 8);
  }
  for (int i = risers; i < wanted; ++i) {
    job.ref.state(job.scratch->slots()[i]) |= GranuleState::carried;
  }
  job.lane().deferred += static_cast<std::uint32_t>(wanted - risers);
  return risers;
}

/// @brief Adds a level's compact rows, whose weights are known, to a rotated output.
template <class C>
void add_values(LaneRef<C> const& ref, std::size_t level, int head, int rows, float* weights,
                std::ptrdiff_t stride, OnlineSoftmax const& state) noexcept {
  with_level<C>(level, [&](auto, auto bits, auto) {
    accumulate_values<bits()>(value_rows(ref, level, head), scale_rows(ref, level, head), rows,
                              weights, stride, state.heads, state.dim, state.out);
  });
}

/// Rotates the outputs of all heads, there or back.
inline void rotate_outputs(OnlineSoftmax const& state) noexcept {
  for (int h = 0; h < state.heads; ++h) {
    rotate(state.out + static_cast<std::ptrdiff_t>(h) * state.dim, state.dim);
  }
}

/// @brief Attention over what was known before anything rose: weights relative to `highest`.
///
/// Values of compact rows are relative to the lane's mean value; rows that are not here count with
/// their estimated weight and that mean.
/// @param state empty before
template <class C>
void attend_ranked(LaneJob<C> const& job, LadderStep<C> const& step, float const* highest,
                   OnlineSoftmax const& state, int head) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  state.reset();
  std::array<float, 64> relative{};  // weights of values that are relative to the mean
  for (int h = 0; h < g.group; ++h) {
    relative[static_cast<std::size_t>(h)] = step.absent[static_cast<std::size_t>(first + h)];
  }
  for (std::size_t level = 0; level < C::levels; ++level) {
    LogitRun const& run = step.runs.run[LadderRuns<C>::pools + level];
    float* const weights = run.logits + first * run.stride;
    int const rows = step.known[level] * C::page;
    for (int h = 0; h < g.group; ++h) {
      relative[static_cast<std::size_t>(h)] += take_weights(weights + h * run.stride, rows);
    }
    add_values(ref, level, head, rows, weights, run.stride, state);
  }
  rotate_outputs(state);
  float const* const means = ref.value_means() + static_cast<std::ptrdiff_t>(head) * dim;
  for (int h = 0; h < g.group; ++h) {
    float const weight = relative[static_cast<std::size_t>(h)];
    state.max[h] = highest[first + h];
    state.sum[h] = weight;
    add_scaled(state.out + static_cast<std::ptrdiff_t>(h) * dim, weight, means, dim);
  }
  if constexpr (C::page == 1) {
    LogitRun const& run = step.runs.run[LadderRuns<C>::exact];
    float* const weights = run.logits + first * run.stride;
    for (int h = 0; h < g.group; ++h) {
      state.sum[h] += take_weights(weights + h * run.stride, step.known_exact);
    }
    accumulate_rows(ref.row_blocks(head), step.known_exact, weights, run.stride, g.group, dim,
                    state.out);
  }
  constexpr float unit = 0x1p-24F;
  for (int h = 0; h < g.group; ++h) {
    state.sum[h] *= unit;
  }
  for (int i = 0; i < g.group * dim; ++i) {
    state.out[i] *= unit;
  }
}

/// @brief Attention over the pools by their logits, beside what `state` holds already.
template <class C>
void attend_pools(LaneJob<C> const& job, LadderRuns<C> const& runs, OnlineSoftmax const& state,
                  int head) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  float const* const means =
      ref.value_means() + static_cast<std::ptrdiff_t>(head) * g.shape.head_dim;
  for (std::size_t level = 0; level < C::levels; ++level) {
    LogitRun const& run = runs.run[LadderRuns<C>::pools + level];
    float* const logits = run.logits + first * run.stride;
    int const rows = ref.lane->pools[level].slots * C::page;
    if (rows == 0) {
      continue;
    }
    weigh(logits, run.stride, rows, state, logits);
    for (int h = 0; h < g.group; ++h) {
      float total = 0.0F;
      for (int i = 0; i < rows; i += tile_rows) {
        total += sum_floats(logits + h * run.stride + i, std::min(tile_rows, rows - i));
      }
      add_scaled(state.out + static_cast<std::ptrdiff_t>(h) * g.shape.head_dim, total, means,
                 g.shape.head_dim);
    }
    rotate_outputs(state);
    add_values(ref, level, head, rows, logits, run.stride, state);
    rotate_outputs(state);
  }
}

/// The scratch's softmax state for one KV head of the lane.
template <class C>
OnlineSoftmax head_state(LaneJob<C> const& job, int head) noexcept {
  Geometry const& g = job.geometry();
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  return {g.group, g.shape.head_dim, job.scratch->max() + first, job.scratch->sum() + first,
          job.scratch->out() + first * g.shape.head_dim};
}

/// Counts the bytes that attention read: exact rows, and pools.
template <class C>
void count_attended(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  ref.lane->touched += static_cast<std::size_t>(ref.lane->exact) * g.granule_bytes();
  for (std::size_t level = 0; level < C::levels; ++level) {
    ref.lane->touched += static_cast<std::size_t>(ref.lane->pools[level].slots) *
                         g.pools[level].block_bytes / static_cast<std::size_t>(g.slots_per_block);
  }
}

/// Attention over granules that were just loaded, K and V of each one after the other.
template <class C>
void attend_loaded(LaneJob<C> const& job, std::byte const* granules, int count,
                   OnlineSoftmax const& state, int head) noexcept {
  Geometry const& g = job.geometry();
  using Value = typename C::Value;
  std::ptrdiff_t const at = static_cast<std::ptrdiff_t>(head) * g.shape.head_dim;
  std::array<Value const*, tile_rows> keys;
  std::array<Value const*, tile_rows> values;
  int n = 0;
  auto const flush = [&] {
    attend_tile(keys.data(), values.data(), n,
                job.scratch->query() + at * static_cast<std::ptrdiff_t>(g.group), state);
    n = 0;
  };
  for (int i = 0; i < count; ++i) {
    std::byte const* const granule = granules + static_cast<std::size_t>(i) * g.granule_bytes();
    for (int row = 0; row < C::page; ++row) {
      auto const* const k = reinterpret_cast<Value const*>(granule) +
                            static_cast<std::ptrdiff_t>(row) * g.row_elements + at;
      keys[static_cast<std::size_t>(n)] = k;
      values[static_cast<std::size_t>(n)] =
          reinterpret_cast<Value const*>(reinterpret_cast<std::byte const*>(k) + g.part_bytes);
      if (++n == tile_rows) {
        flush();
      }
    }
  }
  flush();
}

/// Rows that rise are attended as they come: their estimated weights do not count.
template <class C>
void take_out_risers(LaneJob<C> const& job, LadderStep<C>& step, int risers) noexcept {
  LogitRun const& run = step.runs.run[0];
  std::uint8_t const* const states = job.scratch->states();  // as they were when ranked
  constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = job.scratch->slots()[i];
    if ((states[granule] & GranuleState::fidelity_mask) != frozen) {
      continue;  // from a pool: its weight went with its slot
    }
    for (int h = 0; h < job.geometry().lane_queries; ++h) {
      auto const* const weights =
          reinterpret_cast<std::int32_t const*>(run.logits + h * run.stride);
      for (std::uint32_t row = granule * C::page; row < (granule + 1) * C::page; ++row) {
        step.absent[static_cast<std::size_t>(h)] -= static_cast<float>(weights[row]);
      }
    }
  }
  for (float& weight : step.absent) {
    weight = std::max(weight, 0.0F);
  }
}

/// Frozen granules that were asked and did not rise: another detection, another sleep.
template <class C>
void sleep_ladder(LaneJob<C> const& job, LadderStep<C> const& step) noexcept {
  if constexpr (C::sleeps) {
    LaneRef<C> const& ref = job.ref;
    auto const open = ref.open_range();
    int const last = std::min(open.high, step.runs.run[0].rows);
    constexpr std::uint8_t held =
        GranuleState::pinned | GranuleState::forced | GranuleState::fidelity_mask;
    for (int i = open.low; i < last; ++i) {
      auto const granule = static_cast<std::uint32_t>(i);
      if ((ref.state(granule) & held) != static_cast<std::uint8_t>(Fidelity::frozen) ||
          step.runs.masses(0)[i] >= step.cuts.least[0]) {
        continue;
      }
      int const sleep = detect(ref, job.context->scheduler, granule, true, job.step());
      if (sleep > 0) {
        fall_asleep(ref, granule, job.step() + static_cast<std::uint32_t>(sleep));
      }
    }
  }
}

/// @brief Recall and attention of one token on the ladder.
///
/// Ranks all rows, lets rise what the query needs, attends to exact and compact rows in one pass
/// (rows that rise in this step exactly), and now and then lets sink what was not needed.
/// @param q the lane's queries, [lane_queries][head_dim]
/// @param out [lane_queries][head_dim], or null: recall only, for an attention of the engine's own
/// @throws TierError if a needed row cannot be loaded; the call may be repeated
template <class C>
void step_ladder(LaneJob<C> const& job, float const* q, float* out) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  auto const& scheduler = job.context->scheduler;
  load_queries(job, q);
  if (lane.ready == lane.rows && out == nullptr) {
    return;  // a repeated recall of the same step
  }
  note_cosine(job);
  wake_due(ref, job.step());
  LaneFacts facts = lane_facts(job);
  bool everything = scheduler.recall(facts).kind == Selection::Kind::all;
  auto const open = ref.open_range();
  if (everything && open.low < open.high && lane.rows >= lane.next_look) {
    look_at_cost(job, facts);
    facts = lane_facts(job);
    everything = scheduler.recall(facts).kind == Selection::Kind::all;
  }
  if (lane.exact == ref.granules() && (everything || open.low >= open.high)) {
    if (out != nullptr) {
      attend_lane(job, out);
    }
    lane.ready = lane.rows;
    return;
  }
  if (everything) {
    wake_where(ref, [](std::uint32_t, Timer const&) { return true; });
  }
  int const dim = g.shape.head_dim;
  std::array<float, 512> highest;
  LadderStep<C> step = rank_rows(job, facts, everything, highest.data());
  auto const period = static_cast<std::uint32_t>(kvfreeze::detail::slow_period(scheduler));
  bool visit = (job.step() + ref.index) % period == 0;
  bool const capped = lane.budget != unlimited;
  if (capped && !everything) {
    if (visit) {
      note_ladder_demand(job, step.runs, facts);
    }
    meet_aim(job, step, facts);
  }
  stamp_needed(job, step);
  int listed = list_risers(job, step);
  int risers = limit_risers(job, step, listed);
  if (capped && !holds_risers(job, risers)) {
    // What is not needed makes way first. Then everything is where it was not: rank again.
    LadderCuts<C> const cuts = step.cuts;
    sink_guarded(job, step, 1);
    step = rank_rows(job, facts, everything, highest.data());
    step.cuts = cuts;
    listed = list_risers(job, step);
    risers = fit_risers(job, limit_risers(job, step, listed));
    visit = false;
  }
  leave_pools(job, step, risers, listed);
  std::uint64_t missed = sum_below(std::span<LogitRun const>(step.runs.run.data(), 1),
                                   std::numeric_limits<Mass>::max());
  for (int i = 0; i < risers; ++i) {
    std::uint32_t const granule = scratch.slots()[i];
    missed -= std::min<std::uint64_t>(missed, step.runs.run[0].masses[granule]);
  }
  lane.missed = static_cast<float>(missed) * mass_unit;
  take_out_risers(job, step, risers);

  bool const all_here = lane.exact == ref.granules();
  if (out != nullptr && all_here) {
    attend_lane(job, out);  // bit for bit what a cache without a ladder computes
  }
  for (int head = 0; out != nullptr && !all_here && head < g.heads_per_lane; ++head) {
    attend_ranked(job, step, highest.data(), head_state(job, head), head);
  }
  raise(job, risers, [&](std::byte const* rows, std::uint32_t const*, int count) {
    for (int head = 0; out != nullptr && head < g.heads_per_lane; ++head) {
      attend_loaded(job, rows, count, head_state(job, head), head);
    }
  });
  if (out != nullptr && !all_here) {
    // Rows of single granules lie as they did, those that rose behind them. Larger granules are
    // listed anew, which may put a lane that is complete now in order.
    RowList list{nullptr, lane.slots};
    if constexpr (C::page > 1) {
      list = list_rows(job, false);
    }
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group * dim;
      OnlineSoftmax const state = head_state(job, head);
      attend_from(ref.row_blocks(head), list.slots, C::page > 1 ? 0 : step.known_exact, list.count,
                  scratch.query() + first, state);
      state.finish(out + first, nullptr);
    }
    count_attended(job);
  }
  sleep_ladder(job, step);
  // Over its aim the lane keeps nothing that it does not need.
  bool const above = capped && LadderSize<C>::of(ref).bytes(g) > ladder_room(ref, lane.aim);
  // Not where larger granules have just become complete: they may have been put in order.
  bool const known = C::page == 1 || all_here || lane.exact < ref.granules();
  if ((visit || above) && known && !everything) {
    sink_guarded(job, step, above ? 1 : scheduler.retain(facts).count);
  }
  lane.ready = lane.rows;
}

/// @brief Every unprotected row goes to the first compact level, oldest first, so that the pool
/// keeps the order of positions and attention over it needs no list.
/// @throws TierError whatever the tier throws; granules not yet stored stay exact
template <class C>
void code_all(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  auto const open = ref.open_range();
  std::uint32_t* const slots = scratch.list();
  int count = 0;
  for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(ref.lane->slots); ++slot) {
    slots[count] = slot;
    count += ref.is_open(ref.record(slot).granule, open) ? 1 : 0;
  }
  std::sort(slots, slots + count, [&](std::uint32_t a, std::uint32_t b) {
    return ref.record(a).granule < ref.record(b).granule;
  });
  if (ref.lane->transfer_left != unlimited) {  // what it does not pay for stays exact
    auto left = ref.lane->transfer_left / g.granule_bytes();
    int kept = 0;
    for (int i = 0; i < count; ++i) {
      bool const clean = (ref.state(ref.record(slots[i]).granule) & GranuleState::clean) != 0;
      if (clean || left > 0) {
        left -= clean ? 0 : 1;
        slots[kept++] = slots[i];
      }
    }
    ref.lane->deferred += static_cast<std::uint32_t>(count - kept);
    count = kept;
  }
  for (int done = 0; done < count; done += transfer_batch) {
    auto const batch = static_cast<std::size_t>(std::min(count - done, transfer_batch));
    std::size_t dirty = 0;
    for (std::size_t i = 0; i < batch; ++i) {
      std::uint32_t const slot = slots[static_cast<std::size_t>(done) + i];
      std::uint32_t const granule = ref.record(slot).granule;
      if ((ref.state(granule) & GranuleState::clean) == 0) {
        ::new (scratch.stores() + dirty++)
            StoreRequest{ref.key(granule),
                         {reinterpret_cast<std::byte const*>(ref.k(slot)), g.part_bytes},
                         {reinterpret_cast<std::byte const*>(ref.v(slot)), g.part_bytes}};
      }
    }
    if (dirty > 0) {
      job.context->tier.store({scratch.stores(), dirty});
      std::size_t const bytes = dirty * g.granule_bytes();
      ref.lane->moved_out += bytes;
      ref.lane->transfer_left -= std::min(ref.lane->transfer_left, bytes);
    }
    for (std::size_t i = 0; i < batch; ++i) {
      std::uint32_t const slot = slots[static_cast<std::size_t>(done) + i];
      std::uint32_t const granule = ref.record(slot).granule;
      ref.state(granule) |= GranuleState::clean;
    }
  }
  for (int i = 0; i < count; ++i) {
    std::uint32_t const slot = slots[i];
    push_code(job.context->memory, ref, 0, ref.record(slot).granule, ref.k(slot), ref.v(slot),
              job.step());
  }
  std::sort(slots, slots + count, std::greater<>());
  for (int i = 0; i < count; ++i) {
    release_slot(ref, slots[i]);
  }
  ref.lane->frozen += static_cast<std::uint32_t>(count);
}

/// @brief Rows of a uniformly quantised lane that a pin, a truncation or the cap left at the wrong
/// level come back: pinned ones exact, frozen ones through their codes.
/// @throws TierError whatever the tier throws
template <class C>
void return_rows(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  Lane<C>& lane = job.lane();
  auto const is_pinned = [&](std::uint32_t granule) {
    return (ref.state(granule) & GranuleState::pinned) != 0;
  };
  if (!job.sequence->pins.empty()) {
    drop_codes_where(ref, job.step(), is_pinned);
  }
  if (lane.exact + ref.compact() == ref.granules()) {
    return;
  }
  std::uint32_t* const list = job.scratch->slots();
  for (bool const pinned : {true, false}) {
    int count = 0;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(ref.granules()); ++i) {
      list[count] = i;
      count += ref.fidelity(i) == Fidelity::frozen && is_pinned(i) == pinned ? 1 : 0;
    }
    if (lane.transfer_left != unlimited) {
      auto const affordable = lane.transfer_left / job.geometry().granule_bytes();
      int const kept = static_cast<int>(std::min(affordable, static_cast<std::size_t>(count)));
      lane.deferred += static_cast<std::uint32_t>(count - kept);
      count = kept;
    }
    if (pinned) {
      make_way(job.context->memory, ref, exact_level<C>, count);
      thaw_granules(job.context->memory, ref, job.context->tier, *job.scratch, list, count,
                    job.step());
    } else {
      raise_compact(job, list, count, 1, [](std::byte const*, std::uint32_t const*, int) {});
    }
  }
}

/// @brief One token of a uniformly quantised lane: nothing is ranked.
template <class C>
void step_uniform(LaneJob<C> const& job, float const* q, float* out) {
  Lane<C>& lane = job.lane();
  Geometry const& g = job.geometry();
  load_queries(job, q);
  if (lane.ready == lane.rows && out == nullptr) {
    return;
  }
  note_cosine(job);
  return_rows(job);
  try {
    code_all(job);
  } catch (TierError const&) {
    lane.refused = true;
    job.scratch->failure = std::current_exception();
  }
  if (out != nullptr) {
    load_states(job);
    scan_digests(job);
    for (std::size_t level = 0; level < C::levels; ++level) {
      pool_logits(job, level);
    }
    LadderRuns<C> const runs = make_runs(job);
    for (int head = 0; head < g.heads_per_lane; ++head) {
      std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group * g.shape.head_dim;
      OnlineSoftmax const state = head_state(job, head);
      state.reset();
      attend(job.ref.row_blocks(head), runs.list.slots, runs.list.count,
             job.scratch->query() + first, state, nullptr, 0);
      attend_pools(job, runs, state, head);
      state.finish(out + first, nullptr);
    }
    count_attended(job);
  }
  lane.ready = lane.rows;
}

/// @brief Attention over the compact rows of a lane alone.
/// @param out [lane_queries][head_dim]
/// @param lse [lane_queries], nats; minus infinity where no row is compact
template <class C>
void attend_compact(LaneJob<C> const& job, float const* q, float* out, float* lse) noexcept {
  Geometry const& g = job.geometry();
  load_queries(job, q);
  load_states(job);
  LadderRuns<C> const runs = scan_lane(job);
  for (int head = 0; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
    OnlineSoftmax const state = head_state(job, head);
    state.reset();
    attend_pools(job, runs, state, head);
    state.finish(out + first * g.shape.head_dim, lse + first);
  }
}

/// @brief After a chunk: what its last queries did not need sinks at once.
/// @param query query(i): the lane's queries of the chunk's i-th token
template <class C, class Query>
void settle_chunk(LaneJob<C> const& job, int tokens, Query&& query) {
  LaneRef<C> const& ref = job.ref;
  if constexpr (C::uniform) {
    code_all(job);
  } else {
    LaneFacts facts = lane_facts(job);
    auto const open = ref.open_range();
    if (open.low >= open.high) {
      return;
    }
    load_queries(job, query(tokens - 1));
    look_at_cost(job, facts);
    facts = lane_facts(job);
    if (job.context->scheduler.recall(facts).kind == Selection::Kind::all) {
      return;
    }
    auto const before = static_cast<std::uint16_t>(job.step() - 1U);
    for (std::uint32_t slot = 0; slot < static_cast<std::uint32_t>(ref.lane->slots); ++slot) {
      ref.record(slot).stamp = before;
    }
    std::array<float, 512> highest;
    for (int i = std::max(tokens - votes, 0); i < tokens; ++i) {
      load_queries(job, query(i));
      LadderStep<C> step = rank_rows(job, facts, false, highest.data());
      if (ref.lane->budget != unlimited) {
        note_ladder_demand(job, step.runs, facts);
        meet_aim(job, step, facts);
      }
      stamp_needed(job, step);
      if (i + 1 == tokens) {
        sink_guarded(job, step, 1);
      }
    }
  }
}

}  // namespace kvfreeze::host
