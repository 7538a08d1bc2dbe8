#include <kvfreeze/gpu/dot_scores.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/select.cuh>

#include <catch2/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <gpu/chosen_scheduler.cuh>
#include <gpu/device.cuh>
#include <gpu/host_recall.cuh>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::ChosenScheduler;
using test::HostLane;
using test::Scores;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The host's recall, whatever its composition.
struct Host {
  Scores kind = Scores::masses;
  int page = 1;
  int heads = 1;
  float dot_limit = 0.0F;
  std::function<std::pair<int, int>(HostLane const&)> open;
  /// Of a lane's rows and their logits, [heads][stride]; makes scores too.
  std::function<test::Answer(HostLane const&, int, std::vector<float> const&,
                             std::vector<std::uint32_t>&)>
      run;

  template <Scores Kind, int Page>
  static Host of(ChosenScheduler<false> const& scheduler, int heads) {
    std::vector<float> const levels(host::water_levels, 1.0F);
    auto const host =
        std::make_shared<test::HostRecall<Kind, false, Page>>(scheduler, levels, heads);
    Host out{Kind, Page, heads, host->geometry().dot_limit, {}, {}};
    out.open = [host](HostLane const& lane) {
      auto const open = host->open(lane);
      return std::pair(open.low, open.high);
    };
    out.run = [host, heads](HostLane const& lane, int rows, std::vector<float> const& logits,
                            std::vector<std::uint32_t>& scores) {
      return host->run_from_logits(lane, rows, logits,
                                   logits.size() / static_cast<std::size_t>(heads), scores);
    };
    return out;
  }
};

/// From logits to lists, on both sides.
void check(std::vector<int> const& lengths, ChosenScheduler<false> const& scheduler,
           Host const& host) {
  int const heads = host.heads;
  int const page = host.page;
  CAPTURE(static_cast<int>(host.kind), page, heads);
  test::Stream const stream;
  std::mt19937 random(static_cast<unsigned>(page + heads));
  std::normal_distribution<float> normal(0.0F, 6.0F);
  std::vector<HostLane> lanes;
  std::vector<std::vector<float>> logits;
  std::vector<DeviceArray<float>> device_logits;
  std::vector<DeviceArray<std::uint32_t>> scores, thaws;
  std::vector<DeviceArray<std::uint8_t>> states, wanted;
  std::vector<RankedLane> ranked;
  std::vector<RecallLane> recalls;
  int longest = 0;
  for (int const rows : lengths) {
    std::size_t const granules = static_cast<std::size_t>((rows + page - 1) / page);
    HostLane& lane = lanes.emplace_back(granules, test::Spread::zeros, 3U);
    lane.allowed = lanes.size() % 2 == 0 ? rows / page / 2 : test::unlimited_granules;
    auto const stride = static_cast<std::size_t>(rows + 3) / 4 * 4;
    auto& own = logits.emplace_back(stride * static_cast<std::size_t>(heads));
    for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i) {
      auto const fidelity = test::State::fidelity(lane.states[i / static_cast<std::size_t>(page)]);
      bool const awake = fidelity == Fidelity::exact || fidelity == Fidelity::frozen;
      for (std::size_t h = 0; h < static_cast<std::size_t>(heads); ++h) {
        own[h * stride + i] = awake ? normal(random) : -infinity;
      }
    }
    device_logits.push_back(test::upload(own));
    scores.push_back(test::filled(granules, 99U));
    thaws.push_back(test::filled(granules, 99U));
    wanted.push_back(test::filled(granules, std::uint8_t{9}));
    states.push_back(test::upload(lane.states));
    auto const [low, high] = host.open(lane);
    RankedLane& r = ranked.emplace_back();
    r.runs = 1;
    r.run[0].logits = device_logits.back().data();
    r.run[0].stride = static_cast<std::ptrdiff_t>(stride);
    r.run[0].rows = rows;
    r.run[0].masses = scores.back().data();
    r.run[0].states = states.back().data();
    r.run[0].hidden = test::State::not_askable;
    r.run[0].low = low;
    r.run[0].high = high;
    RecallLane& d = recalls.emplace_back();
    d.facts = test::facts_of(lane, low, high);
    d.scores = scores.back().data();
    d.states = states.back().data();
    d.wanted = wanted.back().data();
    d.thaws = thaws.back().data();
    d.low = low;
    d.high = high;
    longest = std::max(longest, rows);
  }
  auto const described = test::upload(ranked);
  auto const described_recalls = test::upload(recalls);
  DescribedRecalls const source{described_recalls.span()};
  std::size_t const n = lengths.size();
  MassBatch masses;
  masses.lanes = static_cast<int>(n);
  masses.heads = heads;
  masses.max_rows = longest;
  masses.page_tokens = page;
  RecallBatch batch;
  batch.lanes = masses.lanes;
  batch.max_granules = (longest + page - 1) / page;
  batch.units =
      host.kind == Scores::dots ? kvfreeze::detail::dots_per_nat : kvfreeze::detail::masses_per_one;
  DeviceArray<RecallResult> const results(n);
  DeviceArray<host::LogHistogram> const histograms(n);
  Workspace const mass_workspace(softmax_masses_workspace_bytes(masses));
  Workspace const workspace(recall_workspace_bytes(batch));
  auto const decide = decide_recall(scheduler, source, batch, {results}, workspace);
  auto const stats = test::count(stream, [&] {
    if (host.kind == Scores::dots) {
      dot_scores_async(DescribedLanes{described.span()}, masses, host.dot_limit, stream);
      log_histograms_async(source, batch.max_granules, histograms, stream);
      finish_histograms_async(histograms, decide, stream);
    } else {
      softmax_masses_async(DescribedLanes{described.span()}, masses, {{}, {}, {}, histograms},
                           mass_workspace, stream, decide);
    }
    recall_async(source, batch, {results}, workspace, stream);
  });
  if (stats) {
    CHECK(stats->kernel_launches == 4);
    CHECK(stats->host_syncs + stats->mallocs == 0);
  }
  auto const found = test::download(results, stream);
  for (std::size_t i = 0; i < n; ++i) {
    CAPTURE(i, lengths[i]);
    std::vector<std::uint32_t> expected_scores;
    test::Answer const expected = host.run(lanes[i], lengths[i], logits[i], expected_scores);
    CHECK((test::download(scores[i], stream) == expected_scores));
    CHECK((test::download(wanted[i], stream) == expected.wanted));
    CHECK(found[i].keep_from == expected.result.keep_from);
    CHECK(found[i].deferred == expected.result.deferred);
    auto list = test::download(thaws[i], stream);
    list.resize(found[i].thaws);
    CHECK((list == expected.thaws));
  }
}

}  // namespace

TEST_CASE("From logits to lists as on the host", "[recall]") {
  ChosenScheduler<false> const mass{Selection::all_but_mass(0.05F), 0.5F};
  for (int const heads : {1, 3, 8}) {
    check({0, 1, 40, 1000, 20000}, mass, Host::of<Scores::masses, 1>(mass, heads));
  }
  check({3, 41, 1001, 20000}, mass, Host::of<Scores::masses, 4>(mass, 4));
  ChosenScheduler<false> const highest{Selection::above_quantile(0.7F)};
  for (int const heads : {1, 5}) {
    check({0, 1, 40, 1000, 20000}, highest, Host::of<Scores::dots, 1>(highest, heads));
  }
  check({3, 41, 1001, 20000}, highest, Host::of<Scores::dots, 16>(highest, 3));
}
