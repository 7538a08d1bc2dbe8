#include <kvfreeze/kvfreeze.hpp>

#include "cache_laws.hpp"

using namespace kvfreeze;

namespace {

template <class Cache>
void threads(laws::Settings<Cache> const& settings = {}) {
  laws::the_same_answer_however_it_is_driven<Cache>(settings, true);
  laws::a_foreign_kernel_changes_no_decision<Cache>(settings);
}

}  // namespace

TEST_CASE("threads decide nothing: ExactRecall", "[laws][cache][threads]") {
  threads<presets::ExactRecall<>>({.scheduler = {.missed_mass = 0.1F, .stay = 2, .dense_rows = 0}});
}

TEST_CASE("threads decide nothing: AsrKfEgr", "[laws][cache][threads]") {
  threads<presets::AsrKfEgr<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("threads decide nothing: AsrKfEgrEager", "[laws][cache][threads]") {
  threads<presets::AsrKfEgrEager<>>({.scheduler = {.softness = 0.5F}});
}

TEST_CASE("threads decide nothing: granules, memory and counting", "[laws][cache][threads]") {
  threads<KvFreezeCache<Layout<float, 4>, CumulativeMassScorer<>, FixedBudgetScheduler,
                        Statistics<Checksummed<HostTier>>, QueryDriftTrigger>>();
}

TEST_CASE("threads decide nothing: sleeping ladder over boxes", "[laws][cache][threads]") {
  threads<KvFreezeCache<Layout<BFloat16>, EmaMassScorer<BoxDigest<>>, MassLadderScheduler<true>,
                        HostTier, MissedMassTrigger>>(
      {.scheduler = {.missed_mass = 0.2F, .stay = 1, .softness = 0.5F, .dense_rows = 0}});
}
