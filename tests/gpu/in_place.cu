#include <catch2/catch.hpp>

#include <gpu/rows_twins.cuh>

namespace {

using namespace kvfreeze;
using namespace gpu::test;
using MassScorer = InstantMassScorer<KeyCodes<4>>;

}  // namespace

TEST_CASE("A plain cache has its rows in place", "[cache]") {
  auto twins = twins_of<Half, RecencyScorer, InPlaceTier>(small, limits_of(128, 1),
                                                          KeepAllScheduler{}, NeverTrigger{});
  std::size_t const sequence = twins.open(9);
  decode(twins, sequence, 80);
  twins.truncate(sequence, 50);
  decode(twins, sequence, 40);
  StepReport const report = twins.device().report(twins.handle(sequence));
  CHECK(report.rows.exact == report.rows.total());
  CHECK(report.ledger.tier == 0);
  CHECK(report.ledger.rows >= report.full_bytes);
  // append, thaw (which finds nothing to do), attention
  check_launches(twins, sequence, 3);
}

TEST_CASE("Rows freeze and come back in place", "[cache]") {
  auto twins =
      twins_of<Half, MassScorer, InPlaceTier>(small, limits_of(256, 3), busy(), impatient());
  come_and_go(twins);
}

TEST_CASE("Rows in place are forgotten, pinned and brought back on both sides", "[cache]") {
  auto twins =
      twins_of<Half, MassScorer, InPlaceTier>(small, limits_of(256, 2), busy(), impatient());
  std::size_t const second = cut_pin_and_reset(twins, 4, 40, 45);
  StepReport const report = twins.device().report(twins.handle(second));
  CHECK(report.rows.frozen > 0);
  CHECK(report.moved_in_bytes + report.moved_out_bytes == 0);
  CHECK(report.ledger.rows >= report.full_bytes);  // freezing gives no memory back
}

TEST_CASE("A budget of attended rows in place, as Quest has it", "[cache]") {
  Shape const four{.layers = 2, .query_heads = 4, .kv_heads = 1, .head_dim = 64};
  auto twins = twins_of<BFloat16, InstantMassScorer<BoxDigest<>>, InPlaceTier>(
      four, limits_of(256, 1), FixedBudgetScheduler{.granules = 60}, NeverTrigger{});
  std::size_t const sequence = twins.open(33);
  decode(twins, sequence, gpu::test::steps(180));
  CHECK(twins.rows(sequence).frozen > 0);
}

TEST_CASE("Rows sleep in place", "[cache]") {
  SublinearScheduler<Thaw::lazy> scheduler;
  scheduler.softness = 0.5F;
  MeanAbsDotScorer<KeyCodes<4>> const scorer{.window = 8};
  auto twins = twins_of<Half, MeanAbsDotScorer<KeyCodes<4>>, InPlaceTier>(
      small, limits_of(256, 1), scheduler, impatient(), scorer);
  std::size_t const sequence = twins.open(34);
  decode(twins, sequence, 130);
  CHECK(twins.rows(sequence).asleep > 0);
  for (int round = 0; round < 3; ++round) {
    twins.truncate(sequence, 120 - 25 * round);
    twins.pin(sequence, {{10, 20 + round}, {70, 75}});
    decode(twins, sequence, 25);
    if (round == 1) {
      twins.thaw(sequence);
    }
  }
  decode(twins, sequence, 40);
}
