#pragma once

/// @file
/// @brief The least that each concept asks for, and the awkward cases: policies of a user's own.

#include <kvfreeze/concepts.hpp>
#include <kvfreeze/error.hpp>

#include <cstring>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace kvfreeze::archetypes {

/// No optional member, no memory.
struct MinimalScorer {
  using State = NoState;
  static constexpr Evidence evidence = Evidence::none;

  void update(State&, RowEvidence const&) const noexcept {}

  float score(State const&, RowEvidence const&) const noexcept { return 1.0F; }
};

/// A large state and a parameter.
struct StatefulScorer {
  struct State {
    float highest = 0.0F;
    std::uint32_t updates = 0;
    std::uint32_t padding[6] = {};
  };

  static constexpr Evidence evidence = Evidence::mass;
  float gain = 2.0F;

  void update(State& state, RowEvidence const& row) const noexcept {
    ++state.updates;
    state.highest = row.mass > state.highest ? row.mass : state.highest;
  }

  float score(State const& state, RowEvidence const&) const noexcept {
    return gain * state.highest;
  }
};

struct MinimalScheduler {
  Selection recall(LaneFacts const&) const noexcept { return Selection::none(); }

  Selection retain(LaneFacts const&) const noexcept { return Selection::highest(1); }

  int sleep(int) const noexcept { return 0; }
};

/// Every optional member.
struct WholeScheduler {
  static constexpr bool timed = false;
  static constexpr bool sleeps = true;
  static constexpr bool eager = false;
  int every = 4;

  int period() const noexcept { return every; }

  int count(int previous, bool low, int) const noexcept { return low ? previous + 1 : 0; }

  float base_level() const noexcept { return 0.05F; }

  Selection recall(LaneFacts const&) const noexcept { return Selection::all_but_mass(0.05F); }

  Selection retain(LaneFacts const&) const noexcept { return Selection::above(0.01F); }

  int sleep(int detections) const noexcept { return detections; }
};

/// No attach, no capacity, copies in a map.
class MinimalTier {
 public:
  void store(std::span<StoreRequest const> batch) {
    for (StoreRequest const& request : batch) {
      rows_[request.key] = {{request.k.begin(), request.k.end()},
                            {request.v.begin(), request.v.end()}};
    }
  }

  void load(std::span<LoadRequest const> batch) {
    for (LoadRequest const& request : batch) {
      if (!rows_.contains(request.key)) {
        throw TierError("archetype: no such granule");
      }
    }
    for (LoadRequest const& request : batch) {
      auto const& [k, v] = rows_.at(request.key);
      std::memcpy(request.k.data(), k.data(), k.size());
      std::memcpy(request.v.data(), v.data(), v.size());
    }
  }

  void erase(TierKey first, std::uint32_t count) noexcept {
    TierKey last = first;
    last.granule += count;
    rows_.erase(rows_.lower_bound(first), rows_.lower_bound(last));
  }

  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (auto const& [key, row] : rows_) {
      sum += row.first.size() + row.second.size();
    }
    return sum;
  }

 private:
  std::map<TierKey, std::pair<std::vector<std::byte>, std::vector<std::byte>>> rows_;
};

/// Cannot be copied.
class MoveOnlyTier {
 public:
  void store(std::span<StoreRequest const> batch) { tier_->store(batch); }

  void load(std::span<LoadRequest const> batch) { tier_->load(batch); }

  void erase(TierKey first, std::uint32_t count) noexcept { tier_->erase(first, count); }

  [[nodiscard]] std::size_t bytes() const noexcept { return tier_->bytes(); }

 private:
  std::unique_ptr<MinimalTier> tier_ = std::make_unique<MinimalTier>();
};

/// Is always out of order.
struct ThrowingTier {
  void store(std::span<StoreRequest const>) { throw TierError("archetype: store"); }

  void load(std::span<LoadRequest const>) { throw TierError("archetype: load"); }

  void erase(TierKey, std::uint32_t) noexcept {}

  [[nodiscard]] std::size_t bytes() const noexcept { return 0; }
};

struct MinimalTrigger {
  Recovery observe(StepSignals const&) noexcept { return Recovery::none; }

  void reset() noexcept {}
};

/// Asks for FR at the third step in a row that is bad.
class StatefulTrigger {
 public:
  Recovery observe(StepSignals const& signals) noexcept {
    bad_ = signals.missed_mass > 0.5F ? bad_ + 1 : 0;
    return bad_ >= 3 ? Recovery::full : Recovery::none;
  }

  void reset() noexcept { bad_ = 0; }

 private:
  int bad_ = 0;
};

static_assert(ScorerPolicy<MinimalScorer> && ScorerPolicy<StatefulScorer>);
static_assert(SchedulerPolicy<MinimalScheduler> && SchedulerPolicy<WholeScheduler>);
static_assert(TierPolicy<MinimalTier> && TierPolicy<MoveOnlyTier> && TierPolicy<ThrowingTier>);
static_assert(TriggerPolicy<MinimalTrigger> && TriggerPolicy<StatefulTrigger>);

}  // namespace kvfreeze::archetypes
