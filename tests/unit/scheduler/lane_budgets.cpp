#include <kvfreeze/error.hpp>
#include <kvfreeze/published_presets.hpp>
#include <kvfreeze/scheduler/entropy_calibration.hpp>
#include <kvfreeze/scheduler/head_bits_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/lane_shares.hpp>
#include <kvfreeze/scheduler/oq_score.hpp>
#include <kvfreeze/scheduler/rank_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>
#include <vector>

using namespace kvfreeze;
using Kind = Selection::Kind;

namespace {

constexpr Shape shape{.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 16};

EntropyCalibration calibration() { return {shape, {4.0F, 2.0F, 1.0F, 9.0F}}; }

}  // namespace

TEST_CASE("a pyramid's budgets fall from layer to layer and keep their mean", "[scheduler]") {
  PyramidShares const shares{.beta = 20.0F};
  double sum = 0.0;
  for (int layer = 0; layer < 30; ++layer) {
    sum += static_cast<double>(shares.of({.layer = layer, .layers = 30}));
  }
  REQUIRE(shares.of({.layer = 29, .layers = 30}) == Approx(1.0 / 20));
  REQUIRE(shares.of({.layer = 0, .layers = 30}) == Approx(2.0 - 1.0 / 20));
  REQUIRE(sum / 30 == Approx(1.0));
  REQUIRE(shares.of({.layer = 0, .layers = 1}) == 1.0F);
}

TEST_CASE("shares by entropy are clamped and unknown at first", "[scheduler]") {
  EntropyShares const shares;
  REQUIRE(shares.of({}) == 1.0F);
  REQUIRE(shares.of({.entropy = 3.0F, .mean_entropy = 2.0F}) == 1.5F);
  REQUIRE(shares.of({.entropy = 0.1F, .mean_entropy = 2.0F}) == 0.3F);
  REQUIRE(shares.of({.entropy = 9.0F, .mean_entropy = 2.0F}) == 2.5F);
}

TEST_CASE("a table has a share for each lane", "[scheduler]") {
  std::vector<float> const shares{0.5F, 1.25F, 2.0F, 0.25F};
  auto const table = TableShares<>::from(shares);
  REQUIRE(table.of({.layer = 0, .head = 1, .heads = 2}) == 1.25F);
  REQUIRE(table.of({.layer = 1, .head = 0, .heads = 2}) == 2.0F);
  REQUIRE(table.of({.layer = 2, .head = 0, .heads = 2}) == 1.0F);  // not in it
  REQUIRE_THROWS_WITH(TableShares<3>::from(shares), Catch::Contains("4 lanes"));
  REQUIRE_THROWS_AS(TableShares<>::from(std::vector<float>{-1.0F}), InvalidArgument);
  REQUIRE_THROWS_AS(TableShares<>::from(std::vector<float>{std::nanf("")}), InvalidArgument);
}

TEST_CASE("a lane's budget is its share of a number, a fraction or the cap", "[scheduler]") {
  LaneBudgetScheduler<PyramidShares> scheduler{.shares = {.beta = 2.0F}, .granules = 40};
  LaneFacts lane{.layer = 0, .layers = 2, .granules = 100, .exact = 70, .protected_granules = 10};
  REQUIRE(scheduler.retain(lane).kind == Kind::count);
  REQUIRE(scheduler.retain(lane).count == 60);  // 1.5 * 40
  lane.exact = 60;
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  lane.layer = 1;
  REQUIRE(scheduler.retain(lane).count == 20);  // .5 * 40
  scheduler.granules = 0;
  scheduler.fraction = 0.4F;
  REQUIRE(scheduler.retain(lane).count == 20);
  scheduler.fraction = 0.0F;
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  lane.allowed = 30;
  scheduler.shrink = 0.5F;
  REQUIRE(scheduler.retain(lane).count == 15);
  lane.protected_granules = 25;
  REQUIRE(scheduler.retain(lane).count == 25);
  REQUIRE_THROWS_AS(LaneBudgetScheduler<PyramidShares>{.shares = {.beta = 0.5F}}.validate(),
                    InvalidArgument);
  REQUIRE_THROWS_AS(LaneBudgetScheduler<>{.fraction = 1.5F}.validate(), InvalidArgument);
}

TEST_CASE("a part of the budget is the current query's", "[scheduler]") {
  RecallBudgetScheduler<> scheduler{.recalled = 0.25F, .granules = 50};
  LaneFacts lane{.granules = 100, .exact = 50, .protected_granules = 10};
  REQUIRE(scheduler.recall(lane).count == 20);  // the protected ones, and a quarter of the others
  REQUIRE(scheduler.retain(lane).count == 40);
  lane.granules = 50;
  REQUIRE(scheduler.recall(lane).kind == Kind::all);
  REQUIRE(scheduler.retain(lane).kind == Kind::all);
  REQUIRE_THROWS_AS(RecallBudgetScheduler<>{.recalled = 2.0F}.validate(), InvalidArgument);
}

TEST_CASE("calibrated shares as published, and conserved", "[scheduler]") {
  EntropyCalibration const c = calibration();
  std::vector<float> const shares = c.shares();
  REQUIRE(shares == std::vector<float>{1.0F, 0.5F, 0.3F, 2.25F});
  for (float const fraction : {0.1F, 0.3F, 0.5F, 0.9F, 1.0F}) {
    double kept = 0.0;
    for (float const share : c.conserved_shares(fraction)) {
      kept += std::min(1.0, static_cast<double>(share * fraction));
    }
    REQUIRE(kept / 4 == Approx(static_cast<double>(fraction)).epsilon(1e-3));
  }
  REQUIRE_THROWS_AS(c.conserved_shares(0.0F), InvalidArgument);
  REQUIRE(c.variation() == Approx(std::sqrt((0.0 + 4.0 + 9.0 + 25.0) / 4.0) / 4.0));
}

TEST_CASE("a calibration survives its file, and foreign ones are refused", "[scheduler]") {
  std::ostringstream out;
  calibration().save(out);
  std::istringstream in(out.str());
  REQUIRE(EntropyCalibration::load(in, shape).bits == calibration().bits);

  auto const refused = [](std::string const& text, Shape const& model, char const* why) {
    std::istringstream file(text);
    REQUIRE_THROWS_WITH(EntropyCalibration::load(file, model), Catch::Contains(why));
  };
  Shape other = shape;
  other.layers = 3;
  refused(out.str(), other, "it is for 2 layers");
  refused("", shape, "not a file of 'kvfreeze entropies 1'");
  refused("kvfreeze entropies 2\n", shape, "not a file of 'kvfreeze entropies 1'");
  refused(out.str().substr(0, out.str().size() - 2), shape, "3 values for 4 lanes");
  refused(out.str() + "1\n", shape, "more than 4");
  refused("kvfreeze entropies 1\nlayers 2", shape, "not a shape");
  std::string bad = out.str();
  bad.replace(bad.find("\n4 ") + 1, 1, "99");
  refused(bad, shape, "outside [0, 64");
}

TEST_CASE("a layer's OQ score is what its formula says", "[scheduler]") {
  // Two queries, three keys; means .3, .2, .1 and deviations .1, .1, 0.
  std::vector<float> const weights{0.4F, 0.1F, 0.1F, 0.2F, 0.3F, 0.1F};
  OqScore score;
  score.add(weights, 2);
  double entropy = 0.0;
  for (float const p : weights) {
    entropy -= static_cast<double>(p) * std::log(static_cast<double>(p));
  }
  CHECK(score.dispersion == Approx(entropy));
  CHECK(score.variance == Approx(0.02 + 0.02));
  CHECK(score.kurtosis == Approx(1.0 + 1.0).margin(1e-5));
  CHECK(score.value({1.0, 2.0, 1.0}) == Approx(entropy * 0.2 * 2.0).epsilon(1e-4));
  OqScore twice = score;
  twice.add(weights, 2);
  std::vector<OqScore> const layers{score, twice};
  std::vector<float> const ratios = OqScore::ratios(layers);
  CHECK(ratios[1] == 1.0F);
  CHECK(ratios[0] == Approx(score.value() / twice.value()));
}

TEST_CASE("ranks follow the water, and full precision its share", "[scheduler]") {
  RankLadderScheduler<> const scheduler{.kept = 0.8F, .exact = 0.25F};
  LaneFacts lane{.granules = 120, .protected_granules = 20};
  CHECK(scheduler.rungs(lane).attended == 80);
  CHECK(scheduler.rungs(lane).above[0] == 20);
  lane.water_level = 2.0F * RankLadderScheduler<>::slack_level;
  CHECK(scheduler.rungs(lane).attended == 40);
  CHECK(scheduler.rungs(lane).above[0] == 10);
  CHECK_FALSE(detail::rises<RankLadderScheduler<false>>());
  CHECK(detail::rises<RankLadderScheduler<true>>());
  CHECK_THROWS_AS(RankLadderScheduler<>{.kept = 0.0F}.validate(), InvalidArgument);
}

TEST_CASE("a byte cap is dealt by shares, all of it and no more", "[scheduler][cache]") {
  using Cache = presets::EntropyCalibrated<>;
  Cache::scheduler_type scheduler;
  std::vector<float> const shares{0.5F, 1.5F, 1.6F, 0.4F};
  scheduler.shares = TableShares<>::from(shares);
  std::size_t const cap = 640 * 1024;
  Cache cache(
      {.layers = 2, .query_heads = 4, .kv_heads = 2, .head_dim = 64},
      {.max_tokens = 2048, .max_sequences = 1, .resident_bytes = cap, .sinks = 2, .window = 8},
      {.steps = 8}, scheduler);
  Sequence const sequence = cache.open();
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  auto const fill = [&](int n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    std::generate(x.begin(), x.end(), [&] { return normal(random); });
    return x;
  };
  StepReport report;
  for (int token = 0; token < 1500; ++token) {
    for (int layer = 0; layer < shape.layers; ++layer) {
      std::vector<float> out(256);
      cache.attend(sequence, layer, fill(256), fill(128), fill(128), out);
    }
    report = cache.advance(sequence);
    REQUIRE(report.ledger.resident() <= cap);
  }
  CHECK(report.ledger.resident() > cap * 3 / 4);
  for (int layer = 0; layer < 2; ++layer) {
    for (int lane = 0; lane < 2; ++lane) {
      double const ratio = static_cast<double>(cache.exact_rows(sequence, layer, lane)) /
                           static_cast<double>(cache.exact_rows(sequence, 0, 1));
      auto const wanted = static_cast<double>(shares[static_cast<std::size_t>(2 * layer + lane)]);
      CHECK(ratio == Approx(wanted / 1.5).margin(0.12));
    }
  }
}

TEST_CASE("bits by head keep the mean that was asked for", "[scheduler]") {
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    std::uniform_real_distribution<float> relative(0.2F, 2.5F);
    std::vector<float> shares(60);
    std::generate(shares.begin(), shares.end(), [&] { return relative(random); });
    HeadBitsScheduler<> scheduler;
    scheduler.entropies = TableShares<640>::from(shares);
    scheduler.mean_entropy = 5.0F;
    scheduler.alpha = 0.4F;
    for (float const bits : {3.0F, 3.5F, 4.0F, 4.5F}) {
      scheduler.bits = bits;
      HeadBitsScheduler<> const moved = scheduler.conserved();
      CAPTURE(round, bits, moved.bits, scheduler.mean_bits());
      // A step of 1/64 takes few of the lanes over a rounding's edge.
      CHECK(std::abs(moved.mean_bits() - bits) <= 0.15F);
      CHECK(std::abs(moved.mean_bits() - bits) <= std::abs(scheduler.mean_bits() - bits));
      CHECK_NOTHROW(moved.validate());
    }
  }
  // Without a table all lanes have the same bits.
  CHECK(HeadBitsScheduler<>{}.conserved().bits == 4.0F);
}
