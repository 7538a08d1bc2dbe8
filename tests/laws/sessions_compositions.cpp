#include <kvfreeze/kvfreeze.hpp>
#include <kvfreeze/published_presets.hpp>

#include "../support/archetypes.hpp"
#include "session_laws.hpp"

using namespace kvfreeze;

namespace {

/// Remembers on the heap: its bytes say nothing.
class ListTrigger {
 public:
  Recovery observe(StepSignals const& signals) noexcept {
    masses_.push_back(signals.missed_mass);
    return masses_.size() % 23 == 0 ? Recovery::soft : Recovery::none;
  }

  void reset() noexcept { masses_.clear(); }

  [[nodiscard]] std::vector<std::byte> save() const {
    auto const bytes = std::as_bytes(std::span(masses_));
    return {bytes.begin(), bytes.end()};
  }

  void restore(std::span<std::byte const> bytes) {
    masses_.resize(bytes.size() / sizeof(float));
    if (!bytes.empty()) {
      std::memcpy(masses_.data(), bytes.data(), masses_.size() * sizeof(float));
    }
  }

 private:
  std::vector<float> masses_;
};

static_assert(TriggerPolicy<ListTrigger> && detail::SavableTrigger<ListTrigger>);

}  // namespace

TEST_CASE("saved and restored: sleeping boxes in place", "[laws][cache][sessions]") {
  laws::restored_goes_on_as_saved<
      KvFreezeCache<Layout<float>, WindowMassScorer<BoxDigest<>>, MassLadderScheduler<true>,
                    InPlaceTier, MissedMassTrigger>>(
      {.scheduler = {.missed_mass = 0.1F, .stay = 1, .softness = 0.3F, .dense_rows = 0}},
      laws::session_limits());
}

TEST_CASE("saved and restored: granules, layer lanes, drift", "[laws][cache][sessions]") {
  laws::saved_and_restored<
      KvFreezeCache<Layout<float, 4, Grouping::layer>, CumulativeMassScorer<>, FixedBudgetScheduler,
                    Checksummed<HostTier>, AnyOf<EntropyLadderTrigger, QueryDriftTrigger>>>();
}

TEST_CASE("saved and restored: policies of one's own", "[laws][cache][sessions]") {
  laws::saved_and_restored<
      KvFreezeCache<Layout<Half, 16>, archetypes::StatefulScorer, archetypes::WholeScheduler,
                    archetypes::MoveOnlyTier, ListTrigger>>();
}

TEST_CASE("saved and restored: evicted groups", "[laws][cache][sessions]") {
  laws::saved_and_restored<KvFreezeCache<Layout<Half>, CumulativeMassScorer<KeyCodes<4>>,
                                         FixedBudgetScheduler, DiscardTier, MissedMassTrigger>>();
}

TEST_CASE("saved and restored: means of queries, and the direction of keys",
          "[laws][cache][sessions]") {
  laws::restored_goes_on_as_saved<presets::ExpectedAttention<>>({.scheduler = {.capacity = 40}},
                                                                laws::session_limits());
}

TEST_CASE("saved and restored: shares by entropy", "[laws][cache][sessions]") {
  laws::restored_goes_on_as_saved<presets::EntropyOnline<>>({.scheduler = {.fraction = 0.3F}},
                                                            laws::session_limits());
}

TEST_CASE("saved and restored: heads that compete, with a tier", "[laws][cache][sessions]") {
  laws::saved_and_restored<presets::Recalled<WindowMassScorer<KeyCodes<2>>, HeadSplitShares>>(
      {.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("saved and restored: ranks by lag", "[laws][cache][sessions]") {
  laws::restored_goes_on_as_saved<presets::LagKv<>>({.scheduler = {.capacity = 60}},
                                                    laws::session_limits());
}
