#include <kvfreeze/kvfreeze.hpp>

#include "session_laws.hpp"

using namespace kvfreeze;

namespace {

/// The mass of a recent window, averaged over neighbours.
struct PooledScorer : WindowMassScorer<> {
  [[nodiscard]] constexpr int pooled_rows() const noexcept { return 7; }
};

}  // namespace

TEST_CASE("restored under a cap", "[laws][cache][sessions]") {
  using Tier = laws::Watched<HostTier>;
  laws::restored_under_a_cap<presets::ExactRecall<Half, Tier>>({});
  laws::restored_under_a_cap<presets::AsrKfEgr<float, Tier>>({.scheduler = {.softness = 0.5F}});
  laws::restored_under_a_cap<presets::StreamingLlm<Half, laws::Watched<DiscardTier>>>({});
  laws::restored_under_a_cap<presets::KvFreeze<Half, Tier>>({.scheduler = {.dense = false}});
  laws::restored_under_a_cap<presets::KvFreeze<float, Tier>>({});
  laws::restored_under_a_cap<presets::UniformQuantised<4, Half, Tier>>({});
}

TEST_CASE("a cap at restore chooses as limit does", "[laws][cache][sessions][limit]") {
  laws::restore_and_limit_choose_alike<KvFreezeCache<
      Layout<Half>, CumulativeMassScorer<>, OverCapacityScheduler, DiscardTier, NeverTrigger>>(
      {}, 1U << 15);
  laws::restore_and_limit_choose_alike<
      KvFreezeCache<Layout<float, 4>, CumulativeMassScorer<KeyCodes<4>>, FixedBudgetScheduler,
                    HostTier, NeverTrigger>>({.scheduler = {.fraction = 1.0F}}, 1U << 16);
  laws::restore_and_limit_choose_alike<
      KvFreezeCache<Layout<Half>, PooledScorer, FixedBudgetScheduler, DiscardTier, NeverTrigger>>(
      {.scheduler = {.fraction = 1.0F}}, 1U << 15);
  laws::restore_and_limit_choose_alike<presets::ExactRecall<>>({}, 1U << 16);
  laws::restore_and_limit_choose_alike<presets::StreamingLlm<>>({}, 1U << 14);
}
