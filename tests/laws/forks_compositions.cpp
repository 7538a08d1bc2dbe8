#include <kvfreeze/kvfreeze.hpp>
#include <kvfreeze/published_presets.hpp>

#include "../support/archetypes.hpp"
#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("forks: granules, layer lanes, drift, checksums", "[laws][cache][forks]") {
  laws::forks<KvFreezeCache<Layout<float, 4, Grouping::layer>, CumulativeMassScorer<>,
                            FixedBudgetScheduler, Statistics<Checksummed<HostTier>>,
                            AnyOf<EntropyLadderTrigger, QueryDriftTrigger>>>();
}

TEST_CASE("forks: a tier that cannot, policies of one's own", "[laws][cache][forks]") {
  laws::forks<
      KvFreezeCache<Layout<Half, 16>, archetypes::StatefulScorer, archetypes::WholeScheduler,
                    archetypes::MinimalTier, archetypes::StatefulTrigger>>();
}

TEST_CASE("forks: heads that compete", "[laws][cache][forks]") {
  laws::forks<presets::Recalled<WindowMassScorer<KeyCodes<2>>, HeadSplitShares>>(
      {.scheduler = {.fraction = 0.3F}});
}

TEST_CASE("a failed fork changes nothing", "[laws][cache][forks][faults]") {
  laws::a_failed_fork_changes_nothing<presets::AsrKfEgr<Half, FaultInjecting<HostTier>>>(
      {.scheduler = {.softness = 0.5F}});
  using Copied = FaultInjecting<archetypes::MinimalTier>;
  static_assert(!detail::ForksSequences<Copied> && detail::ForksSequences<HostTier>);
  laws::a_failed_fork_changes_nothing<presets::AsrKfEgr<Half, Copied>>(
      {.scheduler = {.softness = 0.5F}});
}

// A prompt in the tier is there once, however many share it.
TEST_CASE("forks share the tier", "[laws][cache][forks]") {
  using Cache = presets::AsrKfEgr<Half, Statistics<HostTier>>;
  Limits limits = laws::session_limits();
  limits.max_sequences = 9;
  auto cache = laws::make_cache<Cache>({.scheduler = {.softness = 0.25F}}, limits);
  kvfreeze_test::InputStream stream(laws::cache_shape, 93);
  laws::Random random(94);
  laws::Place<Cache> const prompt{&cache, cache.open()};
  laws::step_alike<Cache>({prompt}, stream, random, 600);
  for (int i = 0; i < 60; ++i) {
    laws::step_alike<Cache>({prompt}, stream, random, 1);
  }
  std::size_t const alone = cache.ledger().tier;
  cache.tier().reset();
  std::vector<Sequence> children;
  for (int i = 0; i < 8; ++i) {
    children.push_back(cache.fork(prompt.sequence));
  }
  CHECK(cache.tier().counts().fork_calls == 8);
  CHECK(cache.tier().counts().load.calls + cache.tier().counts().store.calls == 0);
  CHECK(cache.ledger().tier < alone + 8 * alone / 2);  // pages of notes; copies would be 8 more
  for (Sequence const child : children) {
    cache.close(child);
  }
  CHECK(cache.ledger().tier == alone);
}

TEST_CASE("forks are made between steps", "[laws][cache][forks]") {
  using Cache = presets::ExactRecall<>;
  auto cache = laws::make_cache<Cache>({});
  Sequence const sequence = cache.open();
  kvfreeze_test::InputStream stream(laws::cache_shape, 95);
  auto input = stream.next(3);
  cache.attend(sequence, 1, input.q, input.k, input.v, input.out);
  REQUIRE_THROWS_AS(cache.fork(sequence), InvalidArgument);
  REQUIRE_THROWS_AS(cache.fork(Sequence{}), UnknownSequence);
  cache.truncate(sequence, 0);
  Sequence const child = cache.fork(sequence);
  REQUIRE(cache.length(child) == 0);
  REQUIRE_THROWS_AS(cache.fork(sequence), CapacityError);  // max_sequences
}
