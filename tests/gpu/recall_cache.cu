#include <catch2/catch.hpp>

#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using MassScorer = InstantMassScorer<KeyCodes<4>>;

}  // namespace

TEST_CASE("Rows are recalled on the device as on the host", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(512, 1), busy(), calm());
  std::size_t const sequence = twins.open(1);
  for (int i = 0; i < gpu::test::steps(200); ++i) {
    twins.step({sequence});
  }
  RowCounts const rows = twins.rows(sequence);
  CHECK(rows.exact > 0);
  CHECK(rows.frozen > 100);
}

TEST_CASE("Recoveries force the same rows on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), busy(), impatient());
  std::size_t const sequence = twins.open(5);
  int recoveries = 0;
  for (int i = 0; i < gpu::test::steps(160); ++i) {
    recoveries += twins.step({sequence}) ? 1 : 0;
  }
  CHECK(recoveries >= 3);  // soft, window and full
}

TEST_CASE("Lanes of exact and frozen rows share steps, come and go", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 3), busy(), impatient());
  come_and_go(twins);
}

TEST_CASE("Groups of one and of four query heads, other elements", "[cache]") {
  Shape const single{.layers = 1, .query_heads = 2, .kv_heads = 2, .head_dim = 128};
  auto wide =
      twins_of<BFloat16, MassScorer, HostTier, 0>(single, limits_of(256, 1), busy(), impatient());
  Shape const four{.layers = 2, .query_heads = 4, .kv_heads = 1, .head_dim = 64};
  auto full = twins_of<float, MassScorer>(four, limits_of(256, 1), busy(), calm());
  std::size_t const a = wide.open(3);
  std::size_t const b = full.open(4);
  for (int i = 0; i < gpu::test::steps(180); ++i) {
    wide.step({a});
    full.step({b});
  }
  CHECK(full.rows(b).frozen > 0);
}

TEST_CASE("Short lanes keep all, until they are long", "[cache]") {
  auto scheduler = busy();
  scheduler.dense_rows = 150;
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), scheduler, calm());
  std::size_t const sequence = twins.open(6);
  for (int i = 0; i < 149; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
  for (int i = 0; i < 51; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A budget of the highest masses is met on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2),
                                          FixedBudgetScheduler{.fraction = 0.5F}, impatient());
  std::size_t const first = twins.open(7);
  std::size_t const second = twins.open(8);
  for (int i = 0; i < gpu::test::steps(130); ++i) {
    twins.step({first});
    twins.step({second, first});
    if (twins.rows(first).total() >= 250 * 4) {
      break;
    }
  }
  CHECK(twins.rows(first).frozen > 0);
}

TEST_CASE("Rows are forgotten, pinned and brought back at once on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2), busy(), impatient());
  std::size_t const second = cut_pin_and_reset(twins, 4, 40, 45);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("A prompt in chunks is recalled on both sides", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 2), busy(), impatient());
  std::size_t const first = decode_new(twins, 20, 33);
  read_prompt(twins, first);
  std::size_t const second = twins.open(34);
  read_prompt(twins, second);
  for (int i = 0; i < 15; ++i) {
    twins.step({second, first});
  }
  twins.compare_rows(second);
  CHECK(twins.rows(second).frozen > 0);
}

TEST_CASE("Nothing ever freezes in a plain cache", "[cache]") {
  auto twins =
      twins_of<Half, RecencyScorer>(small, limits_of(128, 1), KeepAllScheduler{}, NeverTrigger{});
  std::size_t const sequence = twins.open(9);
  for (int i = 0; i < 100; ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).total() == twins.rows(sequence).exact);
}

TEST_CASE("Beyond a capacity the oldest rows go", "[cache]") {
  OverCapacityScheduler const scheduler{.capacity = 60, .shrink = 0.75F};
  auto twins = twins_of<Half, RecencyScorer>(small, limits_of(256, 1), scheduler, NeverTrigger{});
  std::size_t const sequence = twins.open(10);
  for (int i = 0; i < gpu::test::steps(150); ++i) {
    twins.step({sequence});
  }
  CHECK(twins.rows(sequence).exact <= 4U * 60U);
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("A step of recall is a fixed number of launches, and nothing else", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 1), busy(), calm());
  std::size_t const sequence = twins.open(8);
  for (int i = 0; i < gpu::test::steps(120); ++i) {
    twins.step({sequence});
  }
  // append, scan, logits of the tail, 3 of masses, marks and lists, thaw, attention
  check_launches(twins, sequence, 9);
}

TEST_CASE("A captured step of recall serves later ones, and other sequences", "[cache]") {
  auto twins = twins_of<Half, MassScorer>(small, limits_of(256, 3), busy(), impatient());
  replay_by_turns(twins);
}
