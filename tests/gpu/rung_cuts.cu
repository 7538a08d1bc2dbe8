#include <kvfreeze/gpu/histogram.cuh>
#include <kvfreeze/gpu/masses.cuh>
#include <kvfreeze/gpu/rung_cuts.cuh>
#include <kvfreeze/host/ladder_cuts.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/ranked_lanes.cuh>
#include <vector>

namespace rung_cuts_test {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using host::LogHistogram;

/// As much of a composition as host::find_cuts asks for.
template <int Levels>
struct LadderOf {
  struct Scorer {
    using State = NoState;
  };

  using Value = float;
  static constexpr int levels = Levels;
  static constexpr bool has_levels = true;
  static constexpr bool sleeps = false;
  static constexpr bool discards = false;
  static constexpr bool scores_in_slots = false;
  static constexpr bool needs_entropy = false;
  static constexpr bool needs_layer_parts = false;
  static constexpr bool needs_sequence_shares = false;
  static constexpr bool rates = false;
  static constexpr int tail_granules = 64;
};

host::Geometry small_geometry() {
  host::Geometry g;
  g.shape.head_dim = 8;
  g.limits.max_tokens = 40000;
  g.group = 1;
  g.lane_queries = 1;
  g.part_bytes = 16;
  return g;
}

/// The lanes' masses are those of 3 heads.
struct Lanes {
  explicit Lanes(unsigned seed)
      : lanes(shapes(), 3, 1, seed),
        answers(lanes.answers()),
        workspace(softmax_masses_workspace_bytes(lanes.batch())),
        histograms(answers.size()),
        facts(answers.size()),
        geometry(small_geometry()),
        scratch(geometry) {
    for (std::size_t i = 0; i < facts.size(); ++i) {
      facts[i].water_level = i % 2 == 0 ? 0.0F : 0.05F * static_cast<float>(i);
    }
    for (float x = 0.001F; x < 1.0F; x *= 1.5F) {
      levels.push_back(x);
    }
    scratch.commit(40000);
  }

  static std::vector<test::LaneShape> shapes() {
    using test::Logits;
    return {
        {Logits::normal, {{5000, true}, {300, false, true}, {100}, {50}, {20}}},
        {Logits::far, {{20000, true}, {70, false, true}, {100}, {0}, {20}}},
        {Logits::equal, {{1000, true}, {30, false, true}, {0}, {0}, {0}}},
        {Logits::nothing, {{90, true}, {3, false, true}, {10}, {10}, {10}}},
        {Logits::normal, {{0}, {0}, {0}, {0}, {0}}},
        {Logits::normal, {{1, true}, {0}, {1}, {0}, {0}}},
    };
  }

  test::RankedLanes lanes;
  std::vector<test::LaneAnswer> answers;
  Workspace workspace;
  DeviceArray<LogHistogram> histograms;
  std::vector<LaneFacts> facts;
  std::vector<float> levels;
  host::Geometry geometry;
  host::Scratch scratch;
};

/// What the host makes of a lane's masses.
template <int Levels>
struct Expected {
  RungCuts cuts;
  RungCounts wish;
  std::vector<RungCounts> demands;
  host::LadderCuts<LadderOf<Levels>> host_cuts;

  Expected(Lanes& lanes, std::size_t i, LadderScheduler<> const& scheduler) {
    using C = LadderOf<Levels>;
    // The host's masses, as its ranking left them; runs that the ladder does not have join the
    // first one's sums all the same.
    auto masses = lanes.answers[i].masses;
    for (std::size_t r = 2 + Levels; r < masses.size(); ++r) {
      masses[1].insert(masses[1].end(), masses[r].begin(), masses[r].end());
    }
    host::LadderStep<C> step;
    for (std::size_t r = 0; r < step.runs.run.size(); ++r) {
      step.runs.run[r].rows = static_cast<int>(masses[r].size());
      step.runs.run[r].masses = masses[r].data();
    }
    host::Lane<C> lane;
    host::LaneJob<C> job;
    job.scratch = &lanes.scratch;
    job.ref.geometry = &lanes.geometry;
    job.ref.lane = &lane;
    step.cuts = host::find_cuts(job, step.runs, scheduler.rungs(lanes.facts[i]));
    host_cuts = step.cuts;
    std::copy(step.cuts.least.begin(), step.cuts.least.end(), cuts.least);
    auto const size = host::ladder_wish(step, LaneFacts{});
    std::copy_n(size.compact.begin(), Levels, wish.compact);
    wish.exact = size.exact;
    for (float const level : lanes.levels) {
      LaneFacts facts = lanes.facts[i];
      facts.water_level = level;
      demands.push_back(demand(lanes.answers[i].histogram, scheduler.rungs(facts)));
    }
  }

  /// host::note_ladder_demand, up to bytes.
  static RungCounts demand(LogHistogram const& histogram, Rungs const& rungs) {
    auto const from = [&](float epsilon) {
      int const bin = histogram.all_but(host::to_mass(epsilon)).bin;
      int rows = 0;
      for (int b = std::max(bin, 1); b < LogHistogram::bins; ++b) {
        rows += static_cast<int>(histogram.counts[b]);
      }
      return rows;
    };
    RungCounts counts;
    int above = from(rungs.frozen);
    for (std::size_t level = 0; level < Levels; ++level) {
      int const next = std::min(above, from(std::max(rungs.compact[level], rungs.frozen)));
      counts.compact[level] = above - next;
      above = next;
    }
    counts.exact = above;
    return counts;
  }

  [[nodiscard]] bool levels_agree(RungCuts const& found, float hold) const {
    bool agree = true;
    for (int level = 1; level <= Levels + 1; ++level) {
      agree = agree && found.needed(level, hold) == host_cuts.needed(level, hold);
    }
    for (std::uint32_t const mass : {0U, 1U, 77U, 1U << 12, 1U << 20, 1U << 27, 1U << 30}) {
      agree = agree && found.level(mass) == host_cuts.level(mass);
    }
    return agree;
  }
};

template <int Levels>
void check(Lanes& lanes, LadderScheduler<> const& scheduler, test::Stream const& stream) {
  CAPTURE(Levels, scheduler.none);
  std::size_t const count = lanes.answers.size();
  auto const facts = test::upload(lanes.facts);
  auto const levels = test::upload(lanes.levels);
  DeviceArray<RungCuts> const cuts(count);
  DeviceArray<RungCounts> const wishes(count);
  DeviceArray<RungCounts> const demands(count * lanes.levels.size());
  FindRungCuts<LadderScheduler<>, Levels> const finish{scheduler, facts,  cuts,
                                                       wishes,    levels, demands};
  if constexpr (Levels == 3) {  // with the masses
    softmax_masses_async(lanes.lanes.described(), lanes.lanes.batch(),
                         {{}, {}, {}, lanes.histograms}, lanes.workspace, stream, finish);
  } else {  // from the histograms that those left
    finish_histograms_async(lanes.histograms, finish, stream);
  }
  auto const found = test::download(cuts, stream);
  auto const found_wishes = test::download(wishes, stream);
  auto const found_demands = test::download(demands, stream);
  for (std::size_t i = 0; i < count; ++i) {
    CAPTURE(i);
    Expected<Levels> const expected(lanes, i, scheduler);
    REQUIRE(std::equal(found[i].least, found[i].least + 4, expected.cuts.least));
    REQUIRE(expected.levels_agree(found[i], scheduler.hold));
    REQUIRE((found_wishes[i] == expected.wish));
    REQUIRE(std::equal(
        expected.demands.begin(), expected.demands.end(),
        found_demands.begin() + static_cast<std::ptrdiff_t>(i * expected.demands.size())));
  }
}

}  // namespace rung_cuts_test

TEST_CASE("The ladder's cuts, wishes and demands are the host's", "[rung_cuts]") {
  using namespace rung_cuts_test;
  test::Stream const stream;
  std::vector<LadderScheduler<>> schedulers(5);
  schedulers[1].none = schedulers[1].first = 0.0F;
  schedulers[2].none = schedulers[2].first = schedulers[2].second = 0.1F;
  schedulers[3].none = 0.0001F;
  schedulers[3].third = 0.5F;
  schedulers[4].none = 1.0F;
  for (unsigned seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    Lanes lanes(seed);
    for (LadderScheduler<> const& scheduler : schedulers) {
      check<3>(lanes, scheduler, stream);
      check<1>(lanes, scheduler, stream);
    }
  }
}

TEST_CASE("Cuts cost no launch beside the masses", "[rung_cuts]") {
  using namespace rung_cuts_test;
  test::Stream const stream;
  Lanes const lanes(4);
  auto const facts = test::upload(lanes.facts);
  DeviceArray<RungCuts> const cuts(lanes.answers.size());
  auto const stats = test::count(stream, [&] {
    softmax_masses_async(lanes.lanes.described(), lanes.lanes.batch(),
                         {{}, {}, {}, lanes.histograms}, lanes.workspace, stream,
                         FindRungCuts<LadderScheduler<>, 3>{{}, facts, cuts, {}});
  });
  if (stats) {
    CHECK(stats->kernel_launches == 3);
    CHECK(stats->host_syncs + stats->mallocs + stats->memsets == 0);
  }
}
