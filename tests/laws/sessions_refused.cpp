#include <kvfreeze/kvfreeze.hpp>

#include "session_laws.hpp"

using namespace kvfreeze;

TEST_CASE("damage of a saved sequence is found", "[laws][cache][sessions]") {
  laws::damage_is_found<presets::AsrKfEgr<>>({.scheduler = {.softness = 0.5F}}, 40);
  laws::damage_is_found<presets::StreamingLlm<>>({.scheduler = {.capacity = 40}}, 30);
  laws::damage_is_found<presets::Plain<float>>({}, 1);
  laws::damage_is_found<presets::KvFreeze<>>({.scheduler = {.dense = false}}, 40);
}

TEST_CASE("restore survives every fault", "[laws][cache][sessions][faults]") {
  using Faulty = FaultInjecting<HostTier>;
  laws::restore_survives_every_fault<presets::AsrKfEgr<Half, Faulty>>(
      {.scheduler = {.softness = 0.5F}});
  laws::restore_survives_every_fault<presets::KvFreeze<Half, Faulty>>(
      {.scheduler = {.dense = false}});
}

TEST_CASE("a saved sequence of another cache is refused", "[laws][cache][sessions]") {
  using Base = KvFreezeCache<Layout<Half>, EmaMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                             HostTier, MissedMassTrigger>;
  Limits limits = laws::session_limits();
  Base base(laws::cache_shape, limits);
  std::string const file = laws::saved(base, base.open());
  auto const against = [&]<class Cache>(Cache cache, std::string const& theirs,
                                        std::string const& ours) {
    laws::refuses(cache, file, theirs, ours);
  };
  Shape shape = laws::cache_shape;
  shape.layers = 5;
  against(Base(shape, limits), "2", "5");
  shape = laws::cache_shape;
  shape.head_dim = 24;
  against(Base(shape, limits), "16", "24");
  shape = laws::cache_shape;
  shape.scale = 1.0F;
  against(Base(shape, limits), "0.36067376", "1.442695");
  limits.window = 9;
  against(Base(laws::cache_shape, limits), "7", "9");
  limits = laws::session_limits();
  limits.sinks = 0;
  against(Base(laws::cache_shape, limits), "3", "0");
  limits = laws::session_limits();
  if (detail::clears_padding) {
    against(Base(laws::cache_shape, limits, {.decay = 0.5F}),
            detail::settings_of(Base::scorer_type{}),
            detail::settings_of(Base::scorer_type{.decay = 0.5F}));
    against(Base(laws::cache_shape, limits, {}, {.stay = 9}),
            detail::settings_of(Base::scheduler_type{}),
            detail::settings_of(Base::scheduler_type{.stay = 9}));
    against(Base(laws::cache_shape, limits, {}, {}, HostTier(), {.patience = 9}),
            detail::settings_of(Base::trigger_type{}),
            detail::settings_of(Base::trigger_type{.patience = 9}));
  }
  against(KvFreezeCache<Layout<BFloat16>, EmaMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                        HostTier, MissedMassTrigger>(laws::cache_shape, limits),
          "Half", "BFloat16");
  against(KvFreezeCache<Layout<Half, 4>, EmaMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                        HostTier, MissedMassTrigger>(laws::cache_shape, limits),
          "1", "4");
  against(
      KvFreezeCache<Layout<Half, 1, Grouping::layer>, EmaMassScorer<KeyCodes<4>>,
                    WaterLevelScheduler<>, HostTier, MissedMassTrigger>(laws::cache_shape, limits),
      "kv_head", "layer");
  against(KvFreezeCache<Layout<Half>, EmaMassScorer<KeyCodes<2>>, WaterLevelScheduler<>, HostTier,
                        MissedMassTrigger>(laws::cache_shape, limits),
          "kvfreeze::KeyCodes, groups of 64, 4 of 4 bits, 576 bytes",
          "kvfreeze::KeyCodes, groups of 64, 2 of 2 bits, 320 bytes");
  against(KvFreezeCache<Layout<Half>, CumulativeMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                        HostTier, MissedMassTrigger>(laws::cache_shape, limits),
          "kvfreeze::EmaMassScorer, evidence",
          "kvfreeze::CumulativeMassScorer, evidence 3, "
          "state of 4 bytes, 0 queries");
  against(KvFreezeCache<Layout<Half>, EmaMassScorer<KeyCodes<4>>, FixedBudgetScheduler, HostTier,
                        MissedMassTrigger>(laws::cache_shape, limits),
          "kvfreeze::WaterLevelScheduler", "kvfreeze::FixedBudgetScheduler");
  against(KvFreezeCache<Layout<Half>, EmaMassScorer<KeyCodes<4>>, WaterLevelScheduler<>,
                        DiscardTier, MissedMassTrigger>(laws::cache_shape, limits),
          "holding", "discarding");
  against(KvFreezeCache<Layout<Half>, EmaMassScorer<KeyCodes<4>>, WaterLevelScheduler<>, HostTier,
                        NeverTrigger>(laws::cache_shape, limits),
          "kvfreeze::MissedMassTrigger, 28 bytes", "kvfreeze::NeverTrigger, 1 bytes");
}

TEST_CASE("what a file or a cache cannot do is said", "[laws][cache][sessions]") {
  using Cache = presets::KvFreeze<>;
  Limits limits = laws::session_limits();
  Cache cache(laws::cache_shape, limits);
  Sequence const sequence = cache.open();
  kvfreeze_test::InputStream stream(laws::cache_shape, 71);
  auto input = stream.next(5);
  cache.attend(sequence, 0, input.q, input.k, input.v, input.out);
  std::ostringstream out;
  REQUIRE_THROWS_AS(cache.save(sequence, out), InvalidArgument);
  REQUIRE(out.str().empty());
  cache.attend(sequence, 1, input.q, input.k, input.v, input.out);
  cache.advance(sequence);
  std::string const file = laws::saved(cache, sequence);

  std::istringstream in("GGUF, and something else");
  REQUIRE_THROWS_WITH(cache.restore(in), Catch::Contains("not a saved sequence"));
  std::string other = file;
  other[8] = 9;
  std::istringstream newer(other);
  REQUIRE_THROWS_WITH(cache.restore(newer), Catch::Contains("version is 9, this library reads 1"));

  std::ostringstream broken;
  broken.setstate(std::ios::badbit);
  REQUIRE_THROWS_AS(cache.save(sequence, broken), StreamError);
  REQUIRE_THROWS_AS(cache.save(Sequence{}, broken), UnknownSequence);

  limits.max_tokens = 4;
  Cache small(laws::cache_shape, limits);
  std::istringstream again(file);
  try {
    static_cast<void>(small.restore(again));
    FAIL("accepted");
  } catch (CapacityError const& error) {
    REQUIRE(error.needed() == 5);
    REQUIRE(error.available() == 4);
  }
  static_cast<void>(laws::restored(cache, file));  // two are open now, as many as can be
  std::istringstream third(file);
  REQUIRE_THROWS_AS(cache.restore(third), CapacityError);
}

// One stream, several sequences, one after the other.
TEST_CASE("sequences follow one another in a stream", "[laws][cache][sessions]") {
  using Cache = presets::ExactRecall<>;
  Cache cache(laws::cache_shape, laws::session_limits());
  Sequence const first = cache.open();
  Sequence const second = cache.open();
  kvfreeze_test::InputStream stream(laws::cache_shape, 73);
  laws::Random random(74);
  laws::step_alike<Cache>({{&cache, first}}, stream, random, 50);
  laws::step_alike<Cache>({{&cache, second}}, stream, random, 80);
  std::stringstream file;
  cache.save(first, file);
  cache.save(second, file);
  Cache other(laws::cache_shape, laws::session_limits());
  REQUIRE(other.length(other.restore(file)) == 50);
  REQUIRE(other.length(other.restore(file)) == 80);
  std::istream& in = file;
  REQUIRE_THROWS_AS(other.restore(in), Error);
}
