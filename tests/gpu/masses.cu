#include <kvfreeze/gpu/masses.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/ranked_lanes.cuh>
#include <utility>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using test::LaneShape;
using test::Logits;
using test::RankedLanes;

bool same(host::LogHistogram const& a, host::LogHistogram const& b) {
  return std::equal(a.sums, a.sums + host::LogHistogram::bins, b.sums) &&
         std::equal(a.counts, a.counts + host::LogHistogram::bins, b.counts);
}

/// Everything that can be asked for, of a batch.
struct Results {
  explicit Results(MassBatch const& batch)
      : highest(entries(batch)),
        lse(entries(batch)),
        first_weights(entries(batch)),
        histograms(static_cast<std::size_t>(batch.lanes)),
        entropies(histograms.size()),
        workspace(softmax_masses_workspace_bytes(batch)) {}

  [[nodiscard]] MassResults asked() const {
    return {highest, lse, first_weights, histograms, entropies};
  }

  static std::size_t entries(MassBatch const& batch) {
    return static_cast<std::size_t>(batch.lanes) * static_cast<std::size_t>(batch.heads);
  }

  DeviceArray<float> highest, lse, first_weights;
  DeviceArray<host::LogHistogram> histograms;
  DeviceArray<unsigned long long> entropies;
  Workspace workspace;
};

void compare(RankedLanes const& lanes, Results const& results, test::Stream const& stream) {
  auto const answers = lanes.answers();
  auto const masses = lanes.masses(stream);
  auto const highest = test::download(results.highest, stream);
  auto const lse = test::download(results.lse, stream);
  auto const first_weights = test::download(results.first_weights, stream);
  auto const histograms = test::download(results.histograms, stream);
  auto const entropies = test::download(results.entropies, stream);
  REQUIRE(masses.size() == answers.size());
  std::size_t at = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    CAPTURE(i);
    REQUIRE(masses[i].size() == answers[i].masses.size());
    for (std::size_t r = 0; r < masses[i].size(); ++r) {
      CAPTURE(r);
      auto const [a, b] =
          std::mismatch(masses[i][r].begin(), masses[i][r].end(), answers[i].masses[r].begin());
      CAPTURE(a - masses[i][r].begin());
      REQUIRE(a == masses[i][r].end());
    }
    CHECK(same(histograms[i], answers[i].histogram));
    CHECK(entropies[i] == answers[i].entropy);
    for (std::size_t h = 0; h < answers[i].highest.size(); ++h, ++at) {
      CAPTURE(h);
      CHECK(highest[at] == answers[i].highest[h]);
      CHECK(lse[at] == answers[i].lse[h]);
      CHECK(first_weights[at] == answers[i].first_weights[h]);
    }
  }
}

void run(RankedLanes const& lanes, test::Stream const& stream) {
  Results const results(lanes.batch());
  softmax_masses_async(lanes.described(), lanes.batch(), results.asked(), results.workspace, stream,
                       CountOnly{});
  compare(lanes, results, stream);
}

/// Lanes of all kinds and lengths; run 0 is that of digests, then exact rows, then pools.
std::vector<LaneShape> mixed_lanes() {
  return {
      {Logits::normal, {}},
      {Logits::normal, {{0}}},
      {Logits::normal, {{1}}},
      {Logits::normal, {{17, true}, {3, false, true}, {0}, {16}, {15}}},
      {Logits::equal, {{1024}, {1025}}},
      {Logits::nothing, {{300, true}, {40, false, true}}},
      {Logits::far, {{5000}, {64, false, true}}},
      {Logits::zeros, {{129, true}, {7}}},
      {Logits::normal, {{4096, true}, {700, false, true}, {130}, {1}, {2047}}},
  };
}

}  // namespace

TEST_CASE("Masses of every number of heads are the host's to the bit", "[masses]") {
  test::Stream const stream;
  for (int heads = 1; heads <= 9; ++heads) {
    CAPTURE(heads);
    run(RankedLanes(mixed_lanes(), heads, 1, static_cast<unsigned>(heads)), stream);
  }
}

TEST_CASE("Masses of granules are the sums of their rows", "[masses]") {
  test::Stream const stream;
  for (int const page : {4, 16}) {
    CAPTURE(page);
    run(RankedLanes(mixed_lanes(), 3, page, 5), stream);
  }
}

TEST_CASE("Masses do not depend on alignment", "[masses]") {
  test::Stream const stream;
  for (std::size_t const skew : {1U, 2U, 3U}) {
    CAPTURE(skew);
    run(RankedLanes(mixed_lanes(), 5, 1, 9, skew), stream);
  }
  run(RankedLanes(mixed_lanes(), 2, 4, 9, 1), stream);
}

TEST_CASE("Masses of runs row by row are the host's to the bit", "[masses]") {
  test::Stream const stream;
  auto const by_row = [](int rows) { return test::RunShape{.rows = rows, .by_row = true}; };
  std::vector<LaneShape> const shapes{
      {Logits::normal, {{700, true}, {90, false, true}, by_row(1), by_row(130), by_row(2047)}},
      {Logits::far, {by_row(31), by_row(0), by_row(4096), {3}}},
      {Logits::nothing, {by_row(33)}},
  };
  for (int heads = 1; heads <= 9; ++heads) {
    CAPTURE(heads);
    run(RankedLanes(shapes, heads, 1, static_cast<unsigned>(heads)), stream);
  }
}

TEST_CASE("Masses of long lanes are spread over many blocks", "[masses]") {
  test::Stream const stream;
  run(RankedLanes({{Logits::normal, {{70000, true}, {1500, false, true}, {2000}, {333}}},
                   {Logits::equal, {{70000}}},
                   {Logits::normal, {{12}}}},
                  4, 1, 3),
      stream);
  run(RankedLanes({{Logits::far, {{70000}}}}, 8, 16, 4), stream);
}

TEST_CASE("Many lanes share few blocks", "[masses]") {
  test::Stream const stream;
  std::vector<LaneShape> shapes(700, {Logits::normal, {{5, true}, {2}}});
  shapes[13] = {Logits::normal, {{4000, true}, {1100}}};
  run(RankedLanes(shapes, 2, 1, 3), stream);
}

namespace {

/// Notes the largest logits, as a kernel that makes them would.
__global__ void note_largest_kernel(DescribedLanes lanes, int heads, Span<std::uint32_t> keys) {
  int const lane = static_cast<int>(blockIdx.x);
  for (int r = 0; r < lanes.runs(lane); ++r) {
    LogitRun const run = lanes.run(lane, r);
    for (int i = static_cast<int>(threadIdx.x); i < run.rows; i += static_cast<int>(blockDim.x)) {
      for (int h = 0; h < heads; ++h) {
        atomicMax(&keys[static_cast<std::size_t>(lane * heads + h)],
                  logit_key(run.logits[h * run.stride + i]));
      }
    }
  }
}

}  // namespace

TEST_CASE("Largest logits that are known are not looked for", "[masses]") {
  test::Stream const stream;
  RankedLanes const lanes({{Logits::normal, {{3000}, {200}}}, {Logits::nothing, {{50}}}, {}}, 3, 1,
                          8);
  MassBatch batch = lanes.batch();
  Results const results(batch);
  auto const keys = test::filled(Results::entries(batch), 0U);
  note_largest_kernel<<<3, 64, 0, stream.get()>>>(lanes.described(), 3, keys);
  check_launch("note_largest_kernel");
  batch.largest_keys = keys;
  auto const stats = test::count(stream, [&] {
    softmax_masses_async(lanes.described(), batch, results.asked(), results.workspace, stream,
                         CountOnly{});
  });
  compare(lanes, results, stream);
  if (stats) {
    CHECK(stats->kernel_launches == 2);
  }
}

TEST_CASE("Masses take three launches, wait for nothing and read whole sectors", "[masses]") {
  test::Stream const stream;
  LaneShape const lane{Logits::normal, {{98304, true}, {2048, false, true}, {12288}}};
  RankedLanes const lanes({lane, lane}, 4, 1, 8);
  Results const results(lanes.batch());
  auto const stats = test::count(stream, [&] {
    softmax_masses_async(lanes.described(), lanes.batch(), results.asked(), results.workspace,
                         stream, CountOnly{});
  });
  if (!stats) {
    WARN("no counters on this device");
    return;
  }
  CHECK(stats->kernel_launches == 3);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  CHECK(stats->memsets == 0);
  CHECK(test::sector_efficiency(*stats) >= 0.95);
  // Logits three times; states, positions and what blocks tell each other are the rest.
  auto const logits = static_cast<double>(lanes.logit_bytes());
  CHECK(static_cast<double>(stats->global_load_bytes) < 3.5 * logits);
  CHECK(static_cast<double>(stats->global_store_bytes) < 0.27 * logits);  // masses: a quarter
}

TEST_CASE("A captured graph makes masses of lanes that changed", "[masses]") {
  test::Stream const stream;
  RankedLanes lanes(mixed_lanes(), 4, 1, 21);
  Results const results(lanes.batch());
  test::Graph const graph(stream, [&] {
    softmax_masses_async(lanes.described(), lanes.batch(), results.asked(), results.workspace,
                         stream, CountOnly{});
  });
  for (double const share : {1.0, 0.7, 0.01}) {
    CAPTURE(share);
    lanes.change(static_cast<unsigned>(100 * share), share, stream);
    graph.launch(stream);
    compare(lanes, results, stream);
  }
}

TEST_CASE("Masses refuse what does not fit", "[masses]") {
  test::Stream const stream;
  RankedLanes const lanes({{Logits::normal, {{10}}}}, 2, 1, 8);
  MassBatch const good = lanes.batch();
  Results const results(good);
  auto const refuse = [&](MassBatch const& batch, MassResults const& asked) {
    CHECK_THROWS_AS(softmax_masses_async(lanes.described(), batch, asked, results.workspace, stream,
                                         CountOnly{}),
                    InvalidArgument);
  };
  for (auto const& [member, value] :
       std::vector<std::pair<int MassBatch::*, int>>{{&MassBatch::lanes, -1},
                                                     {&MassBatch::lanes, 65536},
                                                     {&MassBatch::heads, 0},
                                                     {&MassBatch::max_rows, -1},
                                                     {&MassBatch::page_tokens, 2}}) {
    MassBatch batch = good;
    batch.*member = value;
    refuse(batch, results.asked());
  }
  MassResults asked = results.asked();
  asked.lse = asked.lse.first(1);
  refuse(good, asked);
  DeviceArray<unsigned long long> const two(2);  // there is one lane
  asked = results.asked();
  asked.entropies = two;
  refuse(good, asked);
  asked = results.asked();
  asked.histograms = {};
  refuse(good, asked);
  CHECK_THROWS_AS(softmax_masses_async(lanes.described(), good, {}, {}, stream), InvalidArgument);
  MassBatch none = good;
  none.lanes = 0;
  CHECK_NOTHROW(softmax_masses_async(lanes.described(), none, {}, {}, stream));
}
