#pragma once

// The least that each concept accepts.

#include <kvfreeze/concepts.hpp>

struct Scorer {
  using State = kvfreeze::NoState;
  static constexpr kvfreeze::Evidence evidence = kvfreeze::Evidence::mass;

  void update(State&, kvfreeze::RowEvidence const&) const noexcept {}

  float score(State const&, kvfreeze::RowEvidence const& row) const noexcept { return row.mass; }
};

struct Scheduler {
  kvfreeze::Selection recall(kvfreeze::LaneFacts const&) const noexcept {
    return kvfreeze::Selection::none();
  }

  kvfreeze::Selection retain(kvfreeze::LaneFacts const&) const noexcept {
    return kvfreeze::Selection::all();
  }

  int sleep(int) const noexcept { return 0; }
};

struct Tier {
  void store(std::span<kvfreeze::StoreRequest const>) {}

  void load(std::span<kvfreeze::LoadRequest const>) {}

  void erase(kvfreeze::TierKey, std::uint32_t) noexcept {}

  std::size_t bytes() const noexcept { return 0; }
};

struct Trigger {
  kvfreeze::Recovery observe(kvfreeze::StepSignals const&) noexcept {
    return kvfreeze::Recovery::none;
  }

  void reset() noexcept {}
};

static_assert(kvfreeze::ScorerPolicy<Scorer>);
static_assert(kvfreeze::SchedulerPolicy<Scheduler>);
static_assert(kvfreeze::TierPolicy<Tier>);
static_assert(kvfreeze::TriggerPolicy<Trigger>);
