#pragma once

#include <kvfreeze/host/plan.hpp>
#include <kvfreeze/host/truncate.hpp>

#include <algorithm>

namespace kvfreeze::host {

/// @brief Puts frozen granules first in line: the next recall brings them back, wanted or not,
/// within the transfer budget and the cap. `pick(granule)` says which. O(rows).
template <class C, class Choose>
void force_where(LaneRef<C> const& ref, Choose&& pick) noexcept {
  if constexpr (!C::discards) {
    wake_where(ref, [&](std::uint32_t granule, Timer const&) { return pick(granule); });
    auto const granules = static_cast<std::uint32_t>(ref.granules());
    for (std::uint32_t granule = 0; granule < granules; ++granule) {
      auto& state = ref.state(granule);
      if (GranuleState::fidelity(state) == Fidelity::frozen &&
          (state & GranuleState::forced) == 0 && pick(granule)) {
        state |= GranuleState::forced;
        ref.lane->forced += 1;
      }
    }
  }
}

/// @brief Thaws everything that the tier holds, at once, and restores the order of positions.
/// @throws TierError whatever the tier throws
template <class C>
void thaw_lane(LaneJob<C> const& job) {
  LaneRef<C> const& ref = job.ref;
  job.scratch->commit(ref.lane->rows);
  drop_codes_where(ref, job.step(), [](std::uint32_t) { return true; });
  wake_where(ref, [](std::uint32_t, Timer const&) { return true; });
  std::uint32_t* const list = job.scratch->list();
  int count = 0;
  for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(ref.granules()); ++granule) {
    if (ref.fidelity(granule) == Fidelity::frozen) {
      list[count++] = granule;
    }
    if constexpr (C::sleeps) {
      ref.timer(granule).count = 0;
    }
  }
  int const first = ref.lane->slots;
  thaw_granules(job.context->memory, ref, job.context->tier, *job.scratch, list, count, job.step());
  rebuild_sums(job, count, [&](int i) {
    return C::in_place ? list[i] : static_cast<std::uint32_t>(first + i);
  });
  if (ref.lane->exact == ref.granules() && !ref.lane->ordered) {
    restore_order(ref, *job.scratch);
  }
}

/// @brief The ladder of ASR-KF-EGR, section 3.6, over all lanes of a sequence.
template <class C>
void recover(Context<C>& context, std::uint32_t index, Recovery level, int window_steps) noexcept {
  if (level == Recovery::none) {
    return;
  }
  if (C::has_levels && context.sequences[index].share != unlimited) {
    return;  // the water level already leaves each lane what fits; to force more would cost codes
  }
  int const period = kvfreeze::detail::slow_period(context.scheduler);
  for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
    LaneJob<C> const job = lane_job(context, index, i);
    LaneRef<C> const& ref = job.ref;
    auto const now = static_cast<std::uint16_t>(job.step());
    // On the ladder rows come back when they matter: what is left to a recovery is everything.
    drop_codes_where(ref, job.step(), [](std::uint32_t) { return true; });
    auto const since = [&](std::uint32_t granule) {
      if constexpr (C::has_levels || C::discards) {
        return 0;
      } else {
        return static_cast<int>(
            static_cast<std::uint16_t>(now - ref.tile(granule).changed[granule % tile_granules]));
      }
    };
    force_where(ref, [&](std::uint32_t granule) {
      if constexpr (C::has_levels) {
        return true;
      }
      switch (level) {
        case Recovery::soft:
          // SR: sleeps of more than one period; without timers, absences of more than one.
          if constexpr (C::sleeps) {
            return context.scheduler.sleep(ref.timer(granule).count) > 1;
          } else {
            return since(granule) > period;
          }
        case Recovery::window:
          return since(granule) < window_steps;
        default:
          return true;
      }
    });
    if constexpr (C::sleeps) {
      if (level >= Recovery::full) {
        for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(ref.granules());
             ++granule) {
          ref.timer(granule).count = 0;
        }
      }
    }
  }
}

/// @brief Saves each granule's counter; a rewalk goes back to one of the last two checkpoints.
template <class C>
void save_checkpoint(Context<C>& context, std::uint32_t index) noexcept {
  SequenceRecord<C>& sequence = context.sequences[index];
  sequence.checkpoints = {sequence.length, sequence.checkpoints[0]};
  if constexpr (C::sleeps) {
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context.geometry().lanes); ++i) {
      LaneRef<C> const ref = context.memory.lane(index, i);
      for (std::uint32_t granule = 0; granule < static_cast<std::uint32_t>(ref.granules());
           ++granule) {
        Timer& timer = ref.timer(granule);
        timer.saved = {timer.count, timer.saved[0]};
      }
    }
  }
}

/// @brief Length to which a rewalk of at least `tokens` goes back: a checkpoint if there is one.
/// With a discarding tier whole granules, because a cut one cannot come back.
template <class C>
int rewalk_length(SequenceRecord<C> const& sequence, int tokens) noexcept {
  int const latest = sequence.length - tokens;
  int length = std::max(latest, std::min(sequence.length, 1));
  for (int const checkpoint : sequence.checkpoints) {
    if (checkpoint > 0 && checkpoint <= latest) {
      length = checkpoint;
      break;
    }
  }
  if (C::discards && length % C::page != 0) {
    length = std::min(std::max(length - length % C::page, C::page), sequence.length);
  }
  return length;
}

/// @brief Rolls tokens, positions, timers and counters back to `length`.
///
/// The tokens are forgotten, whatever happens; rows that must be exact again come back at the end.
/// @throws InvalidArgument if that cuts an evicted granule; nothing was changed then
/// @throws TierError whatever the tier throws; the next call of the sequence tries again
template <class C>
void rewalk(Context<C>& context, std::uint32_t index, int length) {
  SequenceRecord<C>& sequence = context.sequences[index];
  auto const lanes = static_cast<std::uint32_t>(context.geometry().lanes);
  for (std::uint32_t i = 0; i < lanes; ++i) {
    check_cut(lane_job(context, index, i), length);
  }
  for (std::uint32_t i = 0; i < lanes; ++i) {
    cut_lane(lane_job(context, index, i), length);
  }
  context.memory.shrink_tiles(index, length);
  sequence.length = length;
  bool const back = sequence.checkpoints[0] > length;  // to the older checkpoint, or further
  if (back) {
    sequence.checkpoints = {sequence.checkpoints[1] > length ? 0 : sequence.checkpoints[1], 0};
  }
  if constexpr (C::sleeps) {
    bool const restore = length > 0 && sequence.checkpoints[0] == length;
    for (std::uint32_t i = 0; (back || restore) && i < lanes; ++i) {
      LaneRef<C> const ref = context.memory.lane(index, i);
      auto const granules = static_cast<std::uint32_t>(ref.granules());
      for (std::uint32_t granule = 0; granule < granules; ++granule) {
        Timer& timer = ref.timer(granule);
        if (back) {
          timer.saved = {timer.saved[1], 0};
        }
        timer.count = restore ? timer.saved[0] : timer.count;
      }
    }
  }
  plan_bytes(context, index);  // fewer rows may need more exact ones: the digest's last group
  release_blocks(context, index);
  for (std::uint32_t i = 0; i < lanes; ++i) {
    settle_lane(lane_job(context, index, i));
  }
}

}  // namespace kvfreeze::host
