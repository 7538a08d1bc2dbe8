#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/keep_all_scheduler.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scheduler/lane_budget_scheduler.hpp>
#include <kvfreeze/scheduler/mass_ladder_scheduler.hpp>
#include <kvfreeze/scheduler/over_capacity_scheduler.hpp>
#include <kvfreeze/scheduler/recall_budget_scheduler.hpp>
#include <kvfreeze/scheduler/sublinear_scheduler.hpp>
#include <kvfreeze/scheduler/uniform_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>

#include <catch2/catch.hpp>

#include <cstddef>
#include <cstring>
#include <gpu/device.cuh>
#include <random>
#include <vector>

namespace schedulers_test {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

/// What a scheduler says of one lane.
struct Verdict {
  Selection recall, retain;
  int sleep = 0;
  float rungs[1 + Rungs::most_levels] = {};
};

template <class Scheduler>
KVFREEZE_HD Verdict ask(Scheduler const& scheduler, LaneFacts const& facts, int detections) {
  Verdict verdict;
  verdict.recall = scheduler.recall(facts);
  verdict.retain = scheduler.retain(facts);
  verdict.sleep = scheduler.sleep(detections);
  if constexpr (requires { scheduler.rungs(facts); }) {
    Rungs const rungs = scheduler.rungs(facts);
    verdict.rungs[0] = rungs.frozen;
    for (int i = 0; i < Rungs::most_levels; ++i) {
      verdict.rungs[1 + i] = reinterpret_cast<float const*>(&rungs.compact)[i];
    }
  }
  return verdict;
}

template <class Scheduler>
__global__ void ask_kernel(Scheduler scheduler, Span<LaneFacts const> facts, Span<Verdict> out) {
  unsigned const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < facts.size()) {
    out[i] = ask(scheduler, facts[i], static_cast<int>(i) * 37);
  }
}

std::vector<LaneFacts> many_facts() {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  std::vector<LaneFacts> all(3000);
  for (LaneFacts& facts : all) {
    facts.layers = 32;
    facts.layer = static_cast<int>(random() % 32);
    facts.heads = 8;
    facts.head = static_cast<int>(random() % 8);
    facts.entropy = 10.0F * uniform(random);
    facts.mean_entropy = random() % 4 == 0 ? 0.0F : 10.0F * uniform(random);
    facts.layer_part = 8.0F * uniform(random);
    facts.sequence_share = 8.0F * uniform(random);
    facts.page_tokens = random() % 2 == 0 ? 1 : 16;
    facts.granules = static_cast<int>(random() % 3000);
    facts.exact = static_cast<int>(random() % 3000);
    facts.protected_granules = static_cast<int>(random() % 100);
    facts.allowed = random() % 2 == 0 ? facts.allowed : static_cast<int>(random() % 3000);
    facts.water_level = random() % 2 == 0 ? 0.0F : uniform(random);
    facts.ladder_cost = random() % 4 == 0 ? facts.ladder_cost : 2.0F * uniform(random);
    facts.step = static_cast<std::uint32_t>(random());
  }
  return all;
}

bool same(Selection const& a, Selection const& b) {
  return a.kind == b.kind && std::memcmp(&a.value, &b.value, sizeof a.value) == 0 &&
         a.count == b.count;
}

/// How many lanes host and device disagree on.
template <class Scheduler>
int disagreements(Scheduler const& scheduler) {
  test::Stream const stream;
  auto const facts = many_facts();
  auto const device = test::upload(facts);
  auto const verdicts = test::upload(std::vector<Verdict>(facts.size()));
  ask_kernel<<<static_cast<unsigned>(facts.size() / 128 + 1), 128, 0, stream.get()>>>(
      scheduler, Span<LaneFacts const>(device), verdicts.span());
  check_launch("ask_kernel");
  auto const found = test::download(verdicts, stream);
  int count = 0;
  for (std::size_t i = 0; i < facts.size(); ++i) {
    Verdict const expected = ask(scheduler, facts[i], static_cast<int>(i) * 37);
    bool const agree = same(found[i].recall, expected.recall) &&
                       same(found[i].retain, expected.retain) && found[i].sleep == expected.sleep &&
                       std::memcmp(found[i].rungs, expected.rungs, sizeof expected.rungs) == 0;
    count += agree ? 0 : 1;
  }
  return count;
}

}  // namespace schedulers_test

TEST_CASE("Schedulers say on the device what they say on the host", "[schedulers]") {
  using namespace schedulers_test;
  CHECK(disagreements(FixedBudgetScheduler{0.37F}) == 0);
  CHECK(disagreements(FixedBudgetScheduler{0.0F, 100}) == 0);
  CHECK(disagreements(KeepAllScheduler{}) == 0);
  CHECK(disagreements(LadderScheduler<true>{.none = 0.013F, .softness = 1.7F}) == 0);
  CHECK(disagreements(LaneBudgetScheduler<>{.granules = 1000, .shrink = 0.7F}) == 0);
  CHECK(disagreements(LaneBudgetScheduler<PyramidShares>{.shares = {3.0F}, .fraction = 0.4F}) == 0);
  CHECK(disagreements(LaneBudgetScheduler<EntropyShares>{.fraction = 0.3F}) == 0);
  CHECK(disagreements(LaneBudgetScheduler<HeadSplitShares>{.granules = 500}) == 0);
  std::vector<float> shares(256);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    shares[i] = static_cast<float>(i % 37) / 18.0F;
  }
  auto const table = TableShares<256>::from(shares);
  CHECK(disagreements(LaneBudgetScheduler<TableShares<256>>{.shares = table, .granules = 700}) ==
        0);
  CHECK(disagreements(RecallBudgetScheduler<TableShares<256>>{.shares = table, .fraction = 0.5F}) ==
        0);
  CHECK(disagreements(RecallBudgetScheduler<EntropyShares>{.recalled = 0.3F, .granules = 900}) ==
        0);
  CHECK(disagreements(MassLadderScheduler<true>{.missed_mass = 0.06F, .softness = 0.3F}) == 0);
  CHECK(disagreements(OverCapacityScheduler{300, 0.8F}) == 0);
  CHECK(disagreements(SublinearScheduler<Thaw::lazy>{.softness = 1.1F}) == 0);
  CHECK(disagreements(SublinearScheduler<Thaw::eager>{.threshold = 0.2F}) == 0);
  CHECK(disagreements(UniformScheduler{}) == 0);
  CHECK(disagreements(WaterLevelScheduler<true>{.missed_mass = 0.02F, .softness = 2.0F}) == 0);
}
