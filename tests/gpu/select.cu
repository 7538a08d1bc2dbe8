#include <kvfreeze/gpu/select.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/chosen_scheduler.cuh>
#include <gpu/device.cuh>
#include <gpu/host_recall.cuh>
#include <random>
#include <vector>

namespace select_test {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::Answer;
using test::ChosenScheduler;
using test::facts_of;
using test::HostLane;
using test::HostRecall;
using test::Scores;
using test::Spread;
using test::unlimited_granules;

/// Lanes on the device.
struct DeviceLanes {
  DeviceLanes(std::vector<HostLane> const& lanes, bool knows_scores, std::size_t elements)
      : skew(elements) {
    for (HostLane const& lane : lanes) {
      std::size_t const n = lane.scores.size();
      longest = std::max(longest, static_cast<int>(n));
      scores.push_back(test::upload(skewed(lane.scores)));
      states.push_back(test::upload(skewed(lane.states)));
      wanted.push_back(test::filled(n + skew + 1, std::uint8_t{9}));
      thaws.push_back(test::filled(n + 1, 99U));
      RecallLane& out = described.emplace_back();
      out.scores = knows_scores ? scores.back().data() + skew : nullptr;
      out.states = states.back().data() + skew;
      out.wanted = wanted.back().data() + skew;
      out.thaws = thaws.back().data();
      out.affordable = lane.affordable;
    }
  }

  template <class T>
  [[nodiscard]] std::vector<T> skewed(std::vector<T> values) const {
    values.insert(values.begin(), skew, T{7});
    return values;
  }

  /// What was written; the elements around it must be as they were.
  [[nodiscard]] Answer answer(std::size_t i, RecallResult const& result,
                              test::Stream const& stream) const {
    Answer out;
    out.result = result;
    auto const at = static_cast<std::ptrdiff_t>(skew);
    auto const all_wanted = test::download(wanted[i], stream);
    auto const all_states = test::download(states[i], stream);
    auto const all_thaws = test::download(thaws[i], stream);
    CHECK(all_wanted.back() == 9);
    CHECK(std::count(all_wanted.begin(), all_wanted.begin() + at, 9) == at);
    CHECK(all_thaws.back() == 99);
    out.wanted.assign(all_wanted.begin() + at, all_wanted.end() - 1);
    out.states.assign(all_states.begin() + at, all_states.end());
    out.thaws.assign(all_thaws.begin(), all_thaws.begin() + result.thaws);
    return out;
  }

  std::size_t skew;
  int longest = 0;
  std::vector<DeviceArray<std::uint32_t>> scores, thaws;
  std::vector<DeviceArray<std::uint8_t>> states, wanted;
  std::vector<RecallLane> described;
};

bool equal(RecallResult const& a, RecallResult const& b) {
  return a.wanted == b.wanted && a.thaws == b.thaws && a.deferred == b.deferred &&
         a.keep_from == b.keep_from && a.over_cap == b.over_cap;
}

std::vector<float> water_levels() {
  std::vector<float> levels;
  for (int i = 0; i < host::water_levels; ++i) {
    levels.push_back(0.002F * static_cast<float>(i * i));
  }
  return levels;
}

template <Scores Kind, bool Eager>
void check(std::vector<HostLane> const& lanes, ChosenScheduler<Eager> const& scheduler,
           std::size_t skew = 0) {
  CAPTURE(static_cast<int>(Kind), static_cast<int>(scheduler.choice.kind), scheduler.choice.value,
          scheduler.choice.count, skew);
  test::Stream const stream;
  std::vector<float> const levels = water_levels();
  HostRecall<Kind, Eager, 1> host(scheduler, levels);
  DeviceLanes device(lanes, Kind != Scores::none, skew);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    auto const open = host.open(lanes[i]);
    device.described[i].low = open.low;
    device.described[i].high = open.high;
    device.described[i].facts = facts_of(lanes[i], open.low, open.high);
  }
  auto const described = test::upload(device.described);
  auto const device_levels = test::upload(levels);
  DescribedRecalls const recalls{described.span()};
  RecallBatch batch;
  batch.lanes = static_cast<int>(lanes.size());
  batch.max_granules = device.longest;
  batch.units =
      Kind == Scores::dots ? kvfreeze::detail::dots_per_nat : kvfreeze::detail::masses_per_one;
  batch.water_levels = device_levels;
  DeviceArray<RecallResult> const results(lanes.size());
  DeviceArray<std::uint32_t> const demands(lanes.size() * levels.size());
  DeviceArray<host::LogHistogram> const histograms(lanes.size());
  RecallResults const asked{results, demands};
  Workspace const workspace(recall_workspace_bytes(batch));
  log_histograms_async(recalls, batch.max_granules, histograms, stream);
  finish_histograms_async(histograms, decide_recall(scheduler, recalls, batch, asked, workspace),
                          stream);
  recall_async(recalls, batch, asked, workspace, stream);
  auto const found = test::download(results, stream);
  auto const found_demands = test::download(demands, stream);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    CAPTURE(i, lanes[i].scores.size(), lanes[i].allowed, lanes[i].affordable);
    Answer const expected = host.run(lanes[i]);
    Answer const answer = device.answer(i, found[i], stream);
    CAPTURE(answer.result.wanted, expected.result.wanted, answer.result.thaws,
            expected.result.thaws, answer.result.deferred, expected.result.deferred);
    CHECK(equal(answer.result, expected.result));
    CHECK((answer.wanted == expected.wanted));
    CHECK((answer.thaws == expected.thaws));
    CHECK((answer.states == expected.states));
    if (Kind != Scores::none) {
      CHECK(std::equal(expected.demand.begin(), expected.demand.end(),
                       found_demands.begin() + static_cast<std::ptrdiff_t>(i * levels.size())));
    }
  }
}

/// Lanes of all lengths and spreads, with and without a cap and a transfer budget.
std::vector<HostLane> mixed_lanes(unsigned seed) {
  std::vector<HostLane> lanes;
  std::mt19937 random(seed);
  for (std::size_t const n : {0U, 1U, 5U, 37U, 100U, 700U, 4095U, 4096U, 4097U, 9000U}) {
    for (Spread const spread : {Spread::masses, Spread::equal, Spread::zeros, Spread::few}) {
      HostLane& lane = lanes.emplace_back(n, spread, static_cast<unsigned>(random()));
      lane.allowed = random() % 2 == 0 ? unlimited_granules : static_cast<int>(random() % (n + 10));
      lane.affordable = random() % 2 == 0 ? RecallLane::unlimited
                                          : static_cast<std::uint32_t>(random() % (n / 3 + 3));
    }
  }
  return lanes;
}

std::vector<Selection> selections(float unit) {
  std::vector<Selection> all = {Selection::all(), Selection::none(), Selection::wanted_within(3)};
  for (float const x : {0.0F, 1.0F, 15.0F, 16.5F, 1000.0F, 123456.0F, 5e6F, 3e8F, 4e9F, 5e9F}) {
    all.push_back(Selection::above(x * unit));
  }
  for (float const x : {0.0F, 1e3F, 1e6F, 1e8F, 2e9F, 4e9F, 1e20F}) {
    all.push_back(Selection::all_but_mass(x * unit));
  }
  for (int const n : {0, 1, 40, 60, 300, 5000, 1 << 20}) {
    all.push_back(Selection::highest(n));
  }
  for (float const p : {0.0F, 0.3F, 0.7F, 1.0F}) {
    all.push_back(Selection::above_quantile(p));
  }
  return all;
}

}  // namespace select_test

using namespace select_test;

TEST_CASE("Recalls of masses are the host's", "[select]") {
  unsigned seed = 1;
  for (Selection const& choice : selections(0x1p-30F)) {
    check<Scores::masses>(mixed_lanes(seed), ChosenScheduler<false>{choice, 0.5F}, seed % 5);
    seed += 1;
  }
}

TEST_CASE("Recalls of dot products are the host's", "[select]") {
  unsigned seed = 100;
  for (Selection const& choice : selections(1.0F / 4096.0F)) {
    check<Scores::dots>(mixed_lanes(seed), ChosenScheduler<false>{choice, 0.25F});
    seed += 1;
  }
}

TEST_CASE("Recalls without a digest are the host's", "[select]") {
  for (unsigned seed = 200; seed < 204; ++seed) {
    check<Scores::none>(mixed_lanes(seed), ChosenScheduler<false>{Selection::all()});
    check<Scores::none>(mixed_lanes(seed), ChosenScheduler<false>{Selection::highest(20)});
    check<Scores::none>(mixed_lanes(seed), ChosenScheduler<true>{Selection::none()});
  }
}

TEST_CASE("Recalls of long lanes are the host's", "[select]") {
  for (std::uint32_t const affordable : {RecallLane::unlimited, 20000U, 300U, 0U}) {
    std::vector<HostLane> lanes = {
        {70000, Spread::masses, 1}, {64, Spread::few, 2}, {70000, Spread::equal, 3}};
    for (HostLane& lane : lanes) {
      lane.affordable = affordable;
    }
    lanes[0].allowed = 30000;
    check<Scores::masses>(lanes, ChosenScheduler<false>{Selection::highest(40000)});
    check<Scores::masses>(lanes, ChosenScheduler<false>{Selection::all_but_mass(0.1F), 0.5F});
  }
}

TEST_CASE("A recall takes one launch after the decision and reads whole sectors", "[select]") {
  test::Stream const stream;
  std::vector<HostLane> const lanes(4, HostLane(32768, Spread::masses, 5));
  DeviceLanes device(lanes, true, 0);
  for (RecallLane& lane : device.described) {
    lane.facts.granules = 32768;
    lane.low = 4;
    lane.high = 32704;
  }
  auto const described = test::upload(device.described);
  DescribedRecalls const recalls{described.span()};
  RecallBatch batch;
  batch.lanes = 4;
  batch.max_granules = 32768;
  DeviceArray<RecallResult> const results(4);
  DeviceArray<host::LogHistogram> const histograms(4);
  Workspace const workspace(recall_workspace_bytes(batch));
  ChosenScheduler<false> const scheduler{Selection::all_but_mass(0.06F), 0.5F};
  auto const decide = [&] {
    log_histograms_async(recalls, batch.max_granules, histograms, stream);
    finish_histograms_async(histograms,
                            decide_recall(scheduler, recalls, batch, {results}, workspace), stream);
  };
  decide();
  auto const stats =
      test::count(stream, [&] { recall_async(recalls, batch, {results}, workspace, stream); });
  if (!stats) {
    WARN("no counters on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs + stats->mallocs + stats->memsets == 0);
  auto const granules = static_cast<double>(4 * 32768);
  // A granule's score and state; what blocks tell each other, and asking for it, is the rest.
  CHECK(static_cast<double>(stats->global_load_sectors) * 32.0 < 8.0 * granules);
  auto const listed = static_cast<double>(test::download(results, stream)[0].thaws) / 32768.0;
  CHECK(static_cast<double>(stats->global_store_sectors) * 32.0 < (1.1 + 4.5 * listed) * granules);
}

TEST_CASE("A captured graph recalls from other scores", "[select]") {
  test::Stream const stream;
  std::vector<HostLane> const lanes = {{5000, Spread::masses, 5}, {9000, Spread::few, 6}};
  std::vector<HostLane> const others = {{5000, Spread::few, 7}, {9000, Spread::masses, 8}};
  ChosenScheduler<false> const scheduler{Selection::highest(2000), 0.5F};
  std::vector<float> const levels = water_levels();
  HostRecall<Scores::masses, false, 1> host(scheduler, levels);
  DeviceLanes device(lanes, true, 0);
  auto const replace = [&](void* to, void const* from, std::size_t bytes) {
    gpu::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream.get()), "replace");
    stream.wait();
  };
  auto const describe = [&](std::vector<HostLane> const& now) {
    for (std::size_t i = 0; i < now.size(); ++i) {
      auto const open = host.open(now[i]);
      device.described[i].low = open.low;
      device.described[i].high = open.high;
      device.described[i].facts = facts_of(now[i], open.low, open.high);
    }
  };
  describe(lanes);
  auto const described = test::upload(device.described);
  DescribedRecalls const recalls{described.span()};
  RecallBatch batch;
  batch.lanes = 2;
  batch.max_granules = 9000;
  DeviceArray<RecallResult> const results(2);
  DeviceArray<host::LogHistogram> const histograms(2);
  Workspace const workspace(recall_workspace_bytes(batch));
  test::Graph const graph(stream, [&] {
    log_histograms_async(recalls, batch.max_granules, histograms, stream);
    finish_histograms_async(histograms,
                            decide_recall(scheduler, recalls, batch, {results}, workspace), stream);
    recall_async(recalls, batch, {results}, workspace, stream);
  });
  for (auto const* now : {&lanes, &others, &lanes}) {
    for (std::size_t i = 0; i < 2; ++i) {
      replace(device.scores[i].data(), (*now)[i].scores.data(), device.scores[i].size_bytes());
      replace(device.states[i].data(), (*now)[i].states.data(), device.states[i].size_bytes());
    }
    describe(*now);
    replace(described.data(), device.described.data(), described.size_bytes());
    graph.launch(stream);
    auto const found = test::download(results, stream);
    for (std::size_t i = 0; i < 2; ++i) {
      Answer const expected = host.run((*now)[i]);
      Answer const answer = device.answer(i, found[i], stream);
      CHECK(equal(answer.result, expected.result));
      CHECK((answer.wanted == expected.wanted));
      CHECK((answer.thaws == expected.thaws));
    }
  }
}

TEST_CASE("A recall refuses what does not fit", "[select]") {
  test::Stream const stream;
  DeviceArray<RecallResult> const results(2);
  RecallBatch batch;
  batch.lanes = 2;
  batch.max_granules = 100;
  Workspace const workspace(recall_workspace_bytes(batch));
  RecallBatch bad = batch;
  bad.lanes = -1;
  CHECK_THROWS_AS(recall_workspace_bytes(bad), InvalidArgument);
  bad = batch;
  bad.max_granules = -1;
  CHECK_THROWS_AS(recall_workspace_bytes(bad), InvalidArgument);
  CHECK_THROWS_AS(
      recall_async(DescribedRecalls{}, batch, {results.span().first(1)}, workspace, stream),
      InvalidArgument);
  CHECK_THROWS_AS(
      recall_async(DescribedRecalls{}, batch, {results, test::filled(3, 0U)}, workspace, stream),
      InvalidArgument);
  CHECK_THROWS_AS(recall_async(DescribedRecalls{}, batch, {results}, {}, stream), InvalidArgument);
  CHECK_THROWS_AS(decide_recall(ChosenScheduler<false>{}, DescribedRecalls{}, batch, {results}, {}),
                  InvalidArgument);
}
