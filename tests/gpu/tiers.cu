#include <catch2/catch.hpp>

#include <algorithm>
#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using MassScorer = InstantMassScorer<KeyCodes<4>>;

}  // namespace

TEST_CASE("StreamingLLM: sinks and the newest rows stay, the rest is gone", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 60};
  auto twins = twins_of<Half, RecencyScorer, DiscardTier>(small, limits_of(256, 2), scheduler,
                                                          NeverTrigger{});
  std::size_t const first = twins.open(10);
  std::size_t const second = twins.open(11);
  decode(twins, first, gpu::test::steps(150));
  for (int i = 0; i < 40; ++i) {
    twins.step({second, first});
  }
  RowCounts const rows = twins.rows(first);
  CHECK(rows.exact == 4U * 60U);
  CHECK(rows.evicted == rows.total() - rows.exact);
  auto const& cache = twins.device();
  CHECK(cache.report(twins.handle(first)).ledger.tier == 0);
  CHECK(cache.report(twins.handle(first)).moved_out_bytes == 0);
}

TEST_CASE("What is gone stays so, wherever the sequence is cut", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 50, .shrink = 0.75F};
  auto twins = twins_of<Half, RecencyScorer, DiscardTier>(small, limits_of(256, 1), scheduler,
                                                          NeverTrigger{});
  std::size_t const sequence = twins.open(12);
  decode(twins, sequence, 100);
  for (int const length : {95, 70, 50, 20, 2, 0}) {  // into what is gone, and before it
    twins.truncate(sequence, length);
    twins.pin(sequence, {{3, 9}, {length + 10, length + 15}});
    decode(twins, sequence, 6);
    twins.thaw(sequence);
    decode(twins, sequence, 4);
  }
  CHECK(twins.rows(sequence).frozen == 0);
  decode(twins, sequence, 100);
  CHECK(twins.rows(sequence).evicted > 0);
}

TEST_CASE("H2O: rows of the least mass so far are gone", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 50, .shrink = 0.8F};
  auto twins = twins_of<BFloat16, CumulativeMassScorer<>, DiscardTier>(small, limits_of(256, 1),
                                                                       scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(13);
  decode(twins, sequence, gpu::test::steps(160));
  twins.truncate(sequence, 90);
  decode(twins, sequence, 30);
  CHECK(twins.rows(sequence).evicted > 0);
  // append, thaw, attention, notes
  check_launches(twins, sequence, 4);
}

TEST_CASE("Keys of large norms are gone", "[cache]") {
  Shape const four{.layers = 1, .query_heads = 4, .kv_heads = 1, .head_dim = 40};
  auto twins = twins_of<float, Remembering<KeyNormScorer<KeyCodes<4>>>, DiscardTier>(
      four, limits_of(256, 1), FixedBudgetScheduler{.fraction = 0.5F}, NeverTrigger{});
  std::size_t const sequence = twins.open(14);
  decode(twins, sequence, gpu::test::steps(160));
  CHECK(twins.rows(sequence).evicted > 0);
}

TEST_CASE("Digests of groups whose rows are gone are those of the host", "[cache]") {
  auto twins = twins_of<Half, MassScorer, DiscardTier>(
      small, limits_of(256, 2), FixedBudgetScheduler{.fraction = 0.4F}, impatient());
  std::size_t const sequence = twins.open(15);
  decode(twins, sequence, 150);
  for (int const length : {132, 128, 100, 67, 40}) {  // groups are encoded again, with gaps
    twins.truncate(sequence, length);
    decode(twins, sequence, 70);
  }
  std::size_t const other = twins.open(16);
  for (int i = 0; i < 70; ++i) {
    twins.step({other, sequence});
  }
  CHECK(twins.rows(sequence).evicted > 0);
  CHECK(twins.rows(sequence).frozen == 0);
}
