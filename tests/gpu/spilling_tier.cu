#include <kvfreeze/gpu/spilling_tier.cuh>
#include <kvfreeze/tier/checksummed.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <gpu/device.cuh>
#include <gpu/moved_rows.cuh>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace spilling_tier_test {

using namespace kvfreeze::gpu;

/// Counts what is carried over, on the device. Kernels' arguments have to have external linkage.
struct CountCarried {
  Span<std::uint32_t> carried;  // [sequence][lane][granule]
  std::uint32_t lanes = 0;
  std::uint32_t granules = 0;

  __device__ void operator()(MoveJob const& job) const {
    atomicAdd(&carried[(job.sequence * lanes + job.lane) * granules + job.granule], 1U);
  }
};

}  // namespace spilling_tier_test

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr TierGeometry geometry{.sequences = 2, .lanes = 3, .granules = 90, .part_bytes = 48};
constexpr std::size_t granule_bytes = 96;
constexpr std::uint32_t block_granules = 4;
constexpr std::size_t block_bytes = block_granules * granule_bytes;
constexpr std::uint32_t most_jobs = 64;

using Lower = FaultInjecting<Checksummed<HostTier>>;
using Row = std::vector<std::byte>;
using Key = std::pair<std::uint32_t, std::pair<std::uint32_t, std::uint32_t>>;

Key key_of(MoveJob const& job) { return {job.sequence, {job.lane, job.granule}}; }

/// One step's lists and slots; nothing of it may change before the step is done.
struct Step {
  Step()
      : pool(test::filled(2 * most_jobs * granule_bytes, std::byte{0xEE})),
        kept(most_jobs),
        totals(test::filled<std::uint32_t>(2, 99)),
        carried(test::filled<std::uint32_t>(2 * 3 * 90, 0)) {
    check(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), "cudaEventCreate");
  }

  Step(Step const&) = delete;
  Step& operator=(Step const&) = delete;

  ~Step() { static_cast<void>(cudaEventDestroy(done)); }

  std::vector<MoveJob> wanted;
  cudaEvent_t done = nullptr;
  DeviceArray<std::byte> pool;  ///< slots of rows that come, then of rows that are appended
  DeviceArray<MoveJob> wants;
  DeviceArray<std::uint32_t> want_count;
  DeviceArray<MoveJob> news;
  DeviceArray<std::uint32_t> new_count;
  DeviceArray<MoveJob> kept;
  DeviceArray<std::uint32_t> totals;
  DeviceArray<std::uint32_t> carried;
};

/// A tier and what it has to hold.
struct Bench {
  explicit Bench(std::uint32_t blocks, Lower lower = Lower())
      : tier(geometry,
             {.cache_bytes = blocks * block_bytes,
              .block_granules = block_granules,
              .most_misses = 5},
             std::move(lower)),
        moved(test::filled<std::uint64_t>(6, 0)) {}

  [[nodiscard]] GranulePool pool(Step const& step) const {
    return {step.pool, 48, 1, 1, granule_bytes, 48};
  }

  /// begin_step() until it does not throw; how often it threw a TierError.
  int begin(std::vector<SequenceGranules> const& grown) {
    for (int thrown = 0;; ++thrown) {
      try {
        tier.begin_step(grown, stream);
        return thrown;
      } catch (TierError const&) {
        REQUIRE(thrown < 100);
      }
    }
  }

  /// Enqueues a step: rows appended to sequences, granules asked for.
  void step(std::vector<SequenceGranules> const& grown, std::vector<MoveJob> const& asked) {
    failures += begin(grown);
    Step& s = *steps.emplace_back(std::make_unique<Step>());
    std::vector<MoveJob> news;
    for (SequenceGranules const& all : grown) {
      std::uint32_t const sequence = all.sequence;
      for (std::uint32_t granule = lengths[sequence]; granule < all.granules; ++granule) {
        for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
          MoveJob const job{static_cast<std::uint32_t>(most_jobs + news.size()),
                            lane,
                            granule,
                            static_cast<std::uint16_t>(sequence),
                            0,
                            1};
          REQUIRE(news.size() < most_jobs);
          Row const row = test::random_bytes(granule_bytes, ++rows);
          check(cudaMemcpy(s.pool.data() + job.slot * granule_bytes, row.data(), granule_bytes,
                           cudaMemcpyHostToDevice),
                "row");
          contents[key_of(job)] = row;
          news.push_back(job);
        }
      }
      lengths[sequence] = all.granules;
    }
    s.wanted = asked;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      s.wanted[i].slot = static_cast<std::uint32_t>(i);
    }
    s.wants = test::upload(s.wanted);
    s.want_count = test::filled<std::uint32_t>(1, static_cast<std::uint32_t>(s.wanted.size()));
    s.news = test::upload(news);
    s.new_count = test::filled<std::uint32_t>(1, static_cast<std::uint32_t>(news.size()));
    tier.resolve_async(s.wants, s.want_count, {s.kept, s.totals},
                       spilling_tier_test::CountCarried{s.carried, 3, 90}, stream);
    tier.thaw_async(s.kept, Span<std::uint32_t const>(s.totals.data(), 1), pool(s), moved, stream);
    tier.freeze_async(s.news, s.new_count, pool(s), {}, stream);
    check(cudaEventRecord(s.done, stream.get()), "cudaEventRecord");
  }

  /// Waits for the oldest step and compares. Gives back what has to be asked for again.
  std::vector<MoveJob> retire() {
    // The thread first: it must not touch what the steps under way still need, or have to write.
    static_cast<void>(tier.lower());
    Step const& s = *steps.front();
    check(cudaEventSynchronize(s.done), "cudaEventSynchronize");
    auto const totals = held(s.totals);
    REQUIRE(totals[0] + totals[1] == s.wanted.size());
    auto const carried = held(s.carried);
    std::vector<std::byte> const pool = held(s.pool);
    std::vector<MoveJob> again;
    std::vector<MoveJob> kept;
    for (MoveJob const& job : s.wanted) {
      auto const at = (job.sequence * geometry.lanes + job.lane) * geometry.granules;
      REQUIRE(carried[at + job.granule] <= 1);
      auto const row = pool.begin() + job.slot * static_cast<std::ptrdiff_t>(granule_bytes);
      if (carried[at + job.granule] == 1) {
        again.push_back(job);
        REQUIRE(std::all_of(row, row + granule_bytes,
                            [](std::byte b) { return b == std::byte{0xEE}; }));
      } else {
        kept.push_back(job);
        REQUIRE(Row(row, row + granule_bytes) == contents.at(key_of(job)));
        moved_bytes[job.sequence * geometry.lanes + job.lane] += granule_bytes;
      }
    }
    REQUIRE(kept.size() == totals[0]);
    std::vector<MoveJob> const list = held(s.kept, kept.size());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      REQUIRE(list[i].slot == kept[i].slot);  // in their order
    }
    retired.push_back(std::move(steps.front()));
    steps.pop_front();
    return again;
  }

  std::vector<MoveJob> finish() {
    std::vector<MoveJob> again;
    while (!steps.empty()) {
      auto const more = retire();
      again.insert(again.end(), more.begin(), more.end());
    }
    REQUIRE(test::download(moved, stream) == moved_bytes);
    retired.clear();
    return again;
  }

  /// Asks for granules of sequence 0 until they are there. @return how many were missed each time
  std::vector<std::size_t> ask_for_all_lanes(std::uint32_t begin, std::uint32_t end) {
    std::vector<MoveJob> line;
    for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
      for (std::uint32_t granule = begin; granule < end; ++granule) {
        line.push_back({0, lane, granule, 0, 0, 1});
      }
    }
    std::vector<std::size_t> missed;
    while (!line.empty() && missed.size() < 12) {
      step({}, line);
      line = finish();
      missed.push_back(line.size());
      static_cast<void>(tier.lower());  // time for the thread
    }
    return missed;
  }

  /// What an array holds now: later steps need not be done.
  template <class T>
  static std::vector<T> held(DeviceArray<T> const& array, std::size_t most = ~std::size_t{0}) {
    std::vector<T> values(std::min(array.size(), most));
    if (!values.empty()) {
      check(cudaMemcpy(values.data(), array.data(), values.size() * sizeof(T),
                       cudaMemcpyDeviceToHost),
            "held");
    }
    return values;
  }

  [[nodiscard]] std::vector<SequenceGranules> grown_by(std::uint32_t more) const {
    std::vector<SequenceGranules> all;
    for (std::uint32_t sequence = 0; sequence < geometry.sequences; ++sequence) {
      if (open[sequence]) {
        all.push_back({sequence, std::min(lengths[sequence] + more, geometry.granules)});
      }
    }
    return all;
  }

  void open_sequence(std::uint32_t sequence) {
    tier.open(sequence);
    open[sequence] = true;
    lengths[sequence] = 0;
  }

  void close_sequence(std::uint32_t sequence) {
    tier.close(sequence, stream);
    open[sequence] = false;
    lengths[sequence] = 0;
  }

  [[nodiscard]] std::vector<MoveJob> random_wishes(laws::Random& random, std::size_t count) const {
    std::vector<MoveJob> wishes;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint32_t const sequence = random.below(geometry.sequences);
      if (open[sequence] && lengths[sequence] > 0) {
        wishes.push_back({0, random.below(geometry.lanes), random.below(lengths[sequence]),
                          static_cast<std::uint16_t>(sequence), 0, 1});
      }
    }
    return wishes;
  }

  test::Stream stream;
  SpillingTier<Lower> tier;
  DeviceArray<std::uint64_t> moved;
  std::vector<std::uint64_t> moved_bytes = std::vector<std::uint64_t>(6);
  std::map<Key, Row> contents;
  std::uint32_t lengths[2] = {0, 0};
  bool open[2] = {false, false};
  std::deque<std::unique_ptr<Step>> steps;
  std::vector<std::unique_ptr<Step>> retired;  ///< to free memory is to wait for the device
  std::uint64_t rows = 0;
  int failures = 0;
};

/// Wishes without duplicates, those carried over first.
std::vector<MoveJob> in_line(std::vector<MoveJob> first, std::vector<MoveJob> const& then) {
  std::vector<Key> known;
  std::vector<MoveJob> line;
  first.insert(first.end(), then.begin(), then.end());
  for (MoveJob const& job : first) {
    if (std::find(known.begin(), known.end(), key_of(job)) == known.end() &&
        line.size() < most_jobs) {
      known.push_back(key_of(job));
      line.push_back(job);
    }
  }
  return line;
}

/// Rows come, leave, are asked for; sequences come, are cut and go. Up to three steps are under
/// way.
template <class Disturb>
void random_history(std::uint64_t seed, std::uint32_t blocks, Disturb const& disturb) {
  laws::Random random(seed);
  Bench bench(blocks);
  std::size_t const empty = bench.tier.bytes();
  std::vector<MoveJob> carried;
  bench.open_sequence(0);
  for (int round = 0; round < 70; ++round) {
    disturb(bench, random);
    if (random.below(16) == 0) {
      carried = bench.finish();
      std::uint32_t const sequence = random.below(2);
      if (!bench.open[sequence]) {
        bench.open_sequence(sequence);
      } else if (random.below(3) > 0) {
        std::uint32_t const length = random.below(bench.lengths[sequence] + 1);
        bench.tier.truncate(sequence, length, bench.stream);
        bench.lengths[sequence] = length;
      } else {
        bench.close_sequence(sequence);
      }
      std::erase_if(carried,
                    [&](MoveJob const& job) { return job.granule >= bench.lengths[job.sequence]; });
    }
    bench.step(bench.grown_by(random.below(3)),
               in_line(carried, bench.random_wishes(random, random.below(10))));
    carried.clear();
    while (bench.steps.size() == 6 || (!bench.steps.empty() && random.below(3) == 0)) {
      carried = bench.retire();
    }
  }
  bench.finish();
  CHECK(bench.tier.counts().stored > 0);
  CHECK(bench.tier.counts().loaded > 0);
  for (std::uint32_t sequence = 0; sequence < 2; ++sequence) {
    if (bench.open[sequence]) {
      bench.close_sequence(sequence);
    }
  }
  CHECK(bench.tier.lower().bytes() == 0);
  CHECK(bench.tier.bytes() == empty);
}

}  // namespace

TEST_CASE("Rows leave for the lower tier and come back bit for bit", "[spilling]") {
  for (std::uint64_t seed = 1; seed < 11; ++seed) {
    random_history(seed, 12 + static_cast<std::uint32_t>(seed % 5), [](auto&, auto&) {});
  }
}

TEST_CASE("A lower tier that fails now and then loses nothing", "[spilling]") {
  int failures = 0;
  for (std::uint64_t seed = 10; seed < 14; ++seed) {
    random_history(seed, 14, [&](auto& bench, auto& random) {
      failures += std::exchange(bench.failures, 0);
      if (random.below(3) == 0) {
        bench.tier.lower().arm({.call = 1 + random.below(3)});
      }
    });
  }
  CHECK(failures > 20);
}

TEST_CASE("What is asked for again and again is there in the end", "[spilling]") {
  Bench bench(10);
  bench.open_sequence(0);
  while (bench.lengths[0] < geometry.granules) {
    bench.step(bench.grown_by(2), {});
    bench.finish();
  }
  // The oldest rows left long ago.
  auto const missed = bench.ask_for_all_lanes(0, 4);
  CHECK(missed.back() == 0);
  CHECK(bench.tier.counts().missed <= 3 * missed.size());  // a block is told once a step
  CHECK(missed.front() == 12);                             // one step late at least
  CHECK(bench.tier.counts().loaded >= 3);
  CHECK(bench.tier.counts().missed >= 3);
}

TEST_CASE("Memory is bounded, and a step that does not fit says so", "[spilling]") {
  CHECK_THROWS_AS(Bench(5), CapacityError);
  Bench bench(6);
  CHECK(bench.tier.cached_blocks() == 6);
  std::size_t const pinned = bench.tier.pinned_bytes();
  CHECK(pinned == 6 * block_bytes + 6 * 4 + 4 * 6 * 4);
  CHECK(bench.tier.device_bytes() == 2 * 3 * 23 * 8 + 12);
  bench.open_sequence(0);
  bench.open_sequence(1);
  CHECK_THROWS_AS(bench.begin({{0, 9}}), CapacityError);  // three blocks in three lanes
  CHECK_THROWS_AS(bench.begin({{0, 4}, {1, 5}}), CapacityError);
  while (bench.lengths[0] < 80) {
    // Waits for the thread, and for steps before that are not done: their rows have to leave.
    bench.step({{0, bench.lengths[0] + 4}}, {});
  }
  for (std::uint32_t granule = 0; granule < 80; granule += 4) {
    CHECK(bench.ask_for_all_lanes(granule, granule + 2).back() == 0);
  }
  CHECK(bench.tier.pinned_bytes() == pinned);
  CHECK(bench.tier.lower().bytes() > 0);
  CHECK(bench.tier.bytes() >= pinned + bench.tier.lower().bytes());

  Bench full(6, Lower(Checksummed(HostTier(4096))));  // a page of rows, none of bookkeeping
  full.open_sequence(0);
  full.step({{0, 8}}, {});
  CHECK_THROWS_AS(full.tier.begin_step(std::vector<SequenceGranules>{{0, 12}}, full.stream),
                  TierError);
  full.step({}, {{0, 2, 3, 0, 0, 1}, {0, 0, 0, 0, 0, 1}});
  CHECK(full.finish().empty());  // nothing is lost
}

TEST_CASE("What may be written again is in pinned memory, also behind a cut", "[spilling]") {
  Bench bench(24);
  bench.open_sequence(0);
  constexpr std::uint32_t unsettled = 13;
  auto const grow_to = [&](std::uint32_t granules) {
    while (bench.lengths[0] < granules) {
      bench.step({{0, bench.lengths[0] + 1, unsettled}}, {});
      static_cast<void>(bench.tier.lower());  // time for the thread
    }
  };
  grow_to(80);
  CHECK(bench.ask_for_all_lanes(80 - unsettled, 80) == std::vector<std::size_t>{0});
  CHECK(bench.ask_for_all_lanes(0, 4).front() > 0);
  bench.finish();
  bench.tier.truncate(0, 42, bench.stream);
  bench.lengths[0] = 42;
  grow_to(43);
  CHECK(bench.ask_for_all_lanes(43 - unsettled, 43) == std::vector<std::size_t>{0});
  grow_to(60);
  CHECK(bench.ask_for_all_lanes(60 - unsettled, 60) == std::vector<std::size_t>{0});
  CHECK_THROWS_AS(bench.begin({{0, 61, 61}}), CapacityError);
  grow_to(61);
}

TEST_CASE("A step waits for nothing where there is room", "[spilling]") {
  Bench bench(40);
  bench.open_sequence(0);
  bench.open_sequence(1);
  for (int i = 0; i < 20; ++i) {
    bench.step(bench.grown_by(1), {});
  }
  bench.finish();
  auto const stats =
      test::count(bench.stream, [&] { bench.tier.begin_step(bench.grown_by(1), bench.stream); });
  if (!stats) {
    WARN("nobody counts here");
    return;
  }
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
  CHECK(stats->kernel_launches <= 2);
}

TEST_CASE("The device's part of a step is replayed as a graph", "[spilling]") {
  Bench bench(10);
  bench.open_sequence(0);
  bench.step({{0, 4}}, {});
  while (bench.lengths[0] < 60) {
    bench.step(bench.grown_by(2), {});
    bench.finish();
  }
  Step captured;
  captured.wants = DeviceArray<MoveJob>(most_jobs);
  captured.want_count = DeviceArray<std::uint32_t>(1);
  test::Graph const graph(bench.stream, [&] {
    bench.tier.resolve_async(captured.wants, captured.want_count, {captured.kept, captured.totals},
                             spilling_tier_test::CountCarried{captured.carried, 3, 90},
                             bench.stream);
    bench.tier.thaw_async(captured.kept, Span<std::uint32_t const>(captured.totals.data(), 1),
                          bench.pool(captured), {}, bench.stream);
  });
  laws::Random random(4);
  std::uint32_t kept = 0;
  std::vector<MoveJob> line;
  std::uint32_t asked = 0;
  for (int round = 0; round < 40; ++round) {
    bench.begin({});
    if (round % 8 == 0) {
      line = in_line({}, bench.random_wishes(random, 5));
    }
    for (std::uint32_t i = 0; i < line.size(); ++i) {
      line[i].slot = i;
    }
    auto const n = static_cast<std::uint32_t>(line.size());
    bench.stream.wait();
    check(
        cudaMemcpy(captured.wants.data(), line.data(), n * sizeof(MoveJob), cudaMemcpyHostToDevice),
        "jobs");
    check(cudaMemcpy(captured.want_count.data(), &n, sizeof n, cudaMemcpyHostToDevice), "count");
    graph.launch(bench.stream);
    auto const totals = test::download(captured.totals, bench.stream);
    REQUIRE(totals[0] + totals[1] == n);
    std::vector<MoveJob> list(totals[0]);
    auto const pool = test::download(captured.pool, bench.stream);
    check(cudaMemcpy(list.data(), captured.kept.data(), list.size() * sizeof(MoveJob),
                     cudaMemcpyDeviceToHost),
          "kept");
    for (MoveJob const& job : list) {
      auto const row = pool.begin() + job.slot * static_cast<std::ptrdiff_t>(granule_bytes);
      REQUIRE(Row(row, row + granule_bytes) == bench.contents.at(key_of(job)));
    }
    kept += totals[0];
    asked += n;
    static_cast<void>(bench.tier.lower());  // time for the thread
  }
  CHECK(2 * kept > asked);
  CHECK(kept < asked);
}

TEST_CASE("A spilling tier that cannot be is refused", "[spilling]") {
  test::Stream const stream;
  auto const refused = [](TierGeometry const& g, SpillingTierOptions const& o,
                          std::string const& what) {
    CHECK_THROWS_WITH(SpillingTier<Lower>(g, o), Catch::Contains(what));
  };
  TierGeometry g = geometry;
  g.part_bytes = 24;
  refused(g, {}, "part_bytes is 24");
  refused(geometry, {.block_granules = 6}, "block_granules is 6");
  refused(geometry, {.most_misses = 0}, "most_misses is 0");
  g = {.sequences = 65536, .lanes = 65536, .granules = 65536, .part_bytes = 16};
  refused(g, {.block_granules = 1}, "number of blocks");
  SpillingTier<Lower> tier(geometry, {.cache_bytes = 1U << 20U});
  tier.open(1);
  CHECK_THROWS_WITH(tier.open(1), Catch::Contains("sequence 1 is open already"));
  CHECK_THROWS_WITH(tier.open(2), Catch::Contains("sequence 2 is not below 2"));
  CHECK_THROWS_WITH(tier.close(0, stream), Catch::Contains("sequence 0 is not open"));
  CHECK_THROWS_WITH(tier.truncate(1, 1, stream), Catch::Contains("has 0 granules, not 1"));
  std::vector<SequenceGranules> const beyond{{1, 91}};
  CHECK_THROWS_WITH(tier.begin_step(beyond, stream), Catch::Contains("not 91 of at most 90"));
  DeviceArray<MoveJob> const jobs(4);
  DeviceArray<std::uint32_t> const two(2);
  DeviceArray<std::uint32_t> const one(1);
  CHECK_THROWS_WITH(tier.resolve_async(jobs, two, {jobs, two}, CarryNothing{}, stream),
                    Catch::Contains("count has 2"));
  CHECK_THROWS_WITH(
      tier.resolve_async(jobs, one, {jobs.span().first(3), two}, CarryNothing{}, stream),
      Catch::Contains("room for 3 jobs, the list may hold 4"));
}
