#include <kvfreeze/gpu/histogram.cuh>
#include <kvfreeze/host/kernels/mass_threshold.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <random>
#include <span>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using host::BinCutoff;
using host::LogHistogram;

bool same(LogHistogram const& a, LogHistogram const& b) {
  return std::equal(a.sums, a.sums + LogHistogram::bins, b.sums) &&
         std::equal(a.counts, a.counts + LogHistogram::bins, b.counts);
}

std::vector<std::uint32_t> spread_values(std::size_t n, unsigned seed, int least_shift = 0) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> out(n);
  for (auto& x : out) {
    x = static_cast<std::uint32_t>(random()) >> least_shift >>
        (random() % 33 == 32 ? 31 : random() % 32);
  }
  return out;
}

/// Scored lanes on both sides.
struct Scored {
  struct Lane {
    std::vector<std::uint32_t> scores;
    std::vector<std::uint8_t> states;
    int low = 0;
    int high = 0;
    std::uint8_t hidden = 0;
    bool knows_scores = true;
    bool knows_states = true;
    std::size_t skew = 0;
  };

  explicit Scored(std::vector<Lane> const& all) : lanes(all) {
    std::vector<ScoredRows> described;
    for (Lane& lane : lanes) {
      lane.scores.insert(lane.scores.begin(), lane.skew, 5U);
      lane.states.insert(lane.states.begin(), lane.skew, std::uint8_t{0});
      scores.push_back(test::upload(lane.scores));
      states.push_back(test::upload(lane.states));
      ScoredRows rows;
      rows.scores = lane.knows_scores ? scores.back().data() + lane.skew : nullptr;
      rows.states = lane.knows_states ? states.back().data() + lane.skew : nullptr;
      rows.low = lane.low;
      rows.high = lane.high;
      rows.hidden = lane.hidden;
      described.push_back(rows);
      longest = std::max(longest, lane.high);
    }
    device = test::upload(described);
  }

  [[nodiscard]] LogHistogram expected(std::size_t i) const {
    Lane const& lane = lanes[i];
    LogHistogram histogram;
    for (auto at = static_cast<std::size_t>(lane.low); at < static_cast<std::size_t>(lane.high);
         ++at) {
      std::uint32_t const value = lane.knows_scores ? lane.scores[at + lane.skew] : 0U;
      std::uint8_t const state = lane.knows_states ? lane.states[at + lane.skew] : std::uint8_t{0};
      std::uint8_t const asked = (state & lane.hidden) == 0 ? 1 : 0;
      histogram.add(&value, &asked, 1);
    }
    return histogram;
  }

  std::vector<Lane> lanes;
  std::vector<DeviceArray<std::uint32_t>> scores;
  std::vector<DeviceArray<std::uint8_t>> states;
  DeviceArray<ScoredRows> device;
  int longest = 0;
};

Scored::Lane lane_of(std::vector<std::uint32_t> const& scores, unsigned seed) {
  Scored::Lane lane;
  std::mt19937 random(seed);
  lane.scores = scores;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    lane.states.push_back(static_cast<std::uint8_t>(random()));
  }
  lane.high = static_cast<int>(scores.size());
  lane.hidden = 0x15;
  return lane;
}

}  // namespace

TEST_CASE("Histograms of lanes are the host's", "[histogram]") {
  std::vector<Scored::Lane> lanes;
  for (std::size_t const n : {0U, 1U, 3U, 1000U, 4097U, 70000U}) {
    lanes.push_back(lane_of(spread_values(n, static_cast<unsigned>(n)), 3));
  }
  lanes.push_back(lane_of(std::vector<std::uint32_t>(140000, 0xFFFFFFFFU), 4));  // sums carry
  lanes.back().hidden = 0;
  lanes.push_back(lane_of(std::vector<std::uint32_t>(5000, 0U), 4));
  for (std::size_t skew = 1; skew < 4; ++skew) {
    lanes.push_back(lane_of(spread_values(3000, 9), 5));
    lanes.back().skew = skew;
    lanes.back().low = 5 + static_cast<int>(skew);
    lanes.back().high = 2500 - static_cast<int>(skew);
  }
  lanes.push_back(lane_of(spread_values(900, 9), 5));
  lanes.back().knows_scores = false;
  lanes.push_back(lane_of(spread_values(900, 9), 5));
  lanes.back().knows_states = false;
  Scored const scored(lanes);
  test::Stream const stream;
  DeviceArray<LogHistogram> const histograms(lanes.size());
  auto const stats = test::count(stream, [&] {
    log_histograms_async(DescribedRows{scored.device.span()}, scored.longest, histograms, stream);
  });
  auto const found = test::download(histograms, stream);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    CAPTURE(i);
    CHECK(same(found[i], scored.expected(i)));
  }
  if (stats) {
    CHECK(stats->kernel_launches == 1);
    CHECK(stats->memsets == 1);
    CHECK(stats->host_syncs == 0);
  }
  CHECK_THROWS_AS(log_histograms_async(DescribedRows{}, -1, histograms, stream), InvalidArgument);
  CHECK_NOTHROW(log_histograms_async(DescribedRows{}, 10, {}, stream));
}

namespace histogram_test {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using host::BinCutoff;

/// What a cumulative histogram answers to a list of questions.
struct AskAll {
  Span<std::uint64_t const> budgets;
  Span<BinCutoff> all_but, highest;
  Span<float const> quantiles;
  Span<BinCutoff> above;
  Span<std::uint64_t> sums_below;
  Span<std::uint32_t> counts_from;

  __device__ void operator()(int lane, CumulativeHistogram const& rows) const {
    std::size_t const first = static_cast<std::size_t>(lane) * budgets.size();
    for (std::size_t i = threadIdx.x; i < budgets.size(); i += blockDim.x) {
      all_but[first + i] = rows.all_but(budgets[i]);
      highest[first + i] = rows.highest(static_cast<std::uint32_t>(budgets[i]));
      auto const threshold = CumulativeHistogram::threshold(rows.all_but(budgets[i]));
      sums_below[first + i] = rows.sum_below(threshold);
      counts_from[first + i] = rows.count_from(threshold);
    }
    for (std::size_t i = threadIdx.x; i < quantiles.size(); i += blockDim.x) {
      above[static_cast<std::size_t>(lane) * quantiles.size() + i] =
          rows.above_quantile(quantiles[i]);
    }
  }
};

}  // namespace histogram_test

TEST_CASE("A cumulative histogram answers as the host's histogram does", "[histogram]") {
  std::vector<std::vector<std::uint32_t>> const values = {
      {},
      {0},
      {0, 0, 0},
      {7},
      {0xFFFFFFFFU, 0xFFFFFFFFU, 1},
      {0, 0, 1, 1, 3, 8, 9, 15, 16, 17, 18, 31, 32, 70, 70, 90},
      std::vector<std::uint32_t>(1000, 1U << 20),
      spread_values(2000, 3),
      spread_values(500, 4, 1),
  };
  std::vector<std::uint64_t> budgets;
  for (std::uint64_t i = 0; i < 520; ++i) {
    budgets.push_back(i);
  }
  for (std::uint64_t b = 600; b < (std::uint64_t{1} << 45); b = b * 5 / 4) {
    budgets.push_back(b);
  }
  for (std::uint64_t const b : {999U, 1000U, 1001U, 1999U, 2000U, 2001U}) {
    budgets.push_back(b);
  }
  std::vector<float> const quantiles = {0.0F, 0.1F, 0.25F, 0.5F, 0.7F, 0.999F, 1.0F};
  std::vector<LogHistogram> all;
  for (auto const& v : values) {
    LogHistogram histogram;
    histogram.add(v.data(), nullptr, v.size());
    budgets.push_back(histogram.total_sum());
    budgets.push_back(histogram.total_sum() - 1);
    all.push_back(histogram);
  }
  test::Stream const stream;
  auto const histograms = test::upload(all);
  auto const asked = test::upload(budgets);
  auto const asked_quantiles = test::upload(quantiles);
  std::size_t const n = all.size() * budgets.size();
  DeviceArray<BinCutoff> const all_but(n);
  DeviceArray<BinCutoff> const highest(n);
  DeviceArray<BinCutoff> const above(all.size() * quantiles.size());
  DeviceArray<std::uint64_t> const sums_below(n);
  DeviceArray<std::uint32_t> const counts_from(n);
  finish_histograms_async(histograms,
                          histogram_test::AskAll{asked, all_but, highest, asked_quantiles, above,
                                                 sums_below, counts_from},
                          stream);
  auto const found_all_but = test::download(all_but, stream);
  auto const found_highest = test::download(highest, stream);
  auto const found_above = test::download(above, stream);
  auto const found_sums = test::download(sums_below, stream);
  auto const found_counts = test::download(counts_from, stream);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t b = 0; b < budgets.size(); ++b) {
      CAPTURE(i, budgets[b]);
      std::size_t const at = i * budgets.size() + b;
      BinCutoff const cutoff = all[i].all_but(budgets[b]);
      bool same_cutoffs = found_all_but[at] == cutoff;
      same_cutoffs = same_cutoffs &&
                     found_highest[at] == all[i].highest(static_cast<std::uint32_t>(budgets[b]));
      std::uint64_t sum = 0;
      std::uint32_t count = 0;
      for (int bin = 0; bin < LogHistogram::bins; ++bin) {
        sum += bin < cutoff.bin ? all[i].sums[bin] : 0U;
        count += bin < cutoff.bin ? 0U : all[i].counts[bin];
      }
      REQUIRE((same_cutoffs && found_sums[at] == sum && found_counts[at] == count));
    }
    for (std::size_t q = 0; q < quantiles.size(); ++q) {
      CAPTURE(i, quantiles[q]);
      REQUIRE(found_above[i * quantiles.size() + q] == all[i].above_quantile(quantiles[q]));
    }
  }
}

TEST_CASE("Thresholds of lanes are the host's", "[histogram]") {
  std::vector<std::uint32_t> epsilons;
  std::vector<std::uint32_t> expected;
  std::vector<LogHistogram> all;
  for (std::size_t const n : {0U, 1U, 17U, 1000U, 5000U}) {
    auto masses = spread_values(n, static_cast<unsigned>(n) + 7, 1);
    host::LogitRun run;
    run.rows = static_cast<int>(n);
    run.masses = masses.data();
    LogHistogram histogram;
    histogram.add(masses.data(), nullptr, n);
    for (std::uint32_t const epsilon : {0U, 1U, 15U, 4096U, 1U << 20, 1U << 26, 1U << 30,
                                        (1U << 31) - 1, 1U << 31, 0xFFFFFFFFU}) {
      epsilons.push_back(epsilon);
      expected.push_back(
          host::mass_threshold(std::span<host::LogitRun const>(&run, 1), epsilon, 1000));
      all.push_back(histogram);
    }
  }
  test::Stream const stream;
  DeviceArray<std::uint32_t> const thresholds(epsilons.size());
  mass_thresholds_async(test::upload(all), test::upload(epsilons), thresholds, stream);
  CHECK(test::download(thresholds, stream) == expected);
  CHECK_THROWS_AS(mass_thresholds_async(test::upload(all), {}, thresholds, stream),
                  InvalidArgument);
}
