#include <kvfreeze/gpu/pinned_tier.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <dlfcn.h>
#include <gpu/device.cuh>
#include <gpu/moved_rows.cuh>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

/// What fails, and how.
struct Faults {
  std::size_t pins_from = std::numeric_limits<std::size_t>::max();  ///< bytes not pinned any more
  cudaError_t pin_status = cudaErrorMemoryAllocation;
  bool host_functions = false;
  bool launches = false;
};

Faults faults;

/// While it lives, something fails.
struct Faulty {
  explicit Faulty(Faults const& now) { faults = now; }

  Faulty(Faulty const&) = delete;
  Faulty& operator=(Faulty const&) = delete;

  ~Faulty() { faults = {}; }
};

template <class F>
F* real(char const* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

constexpr test::PoolShape shape{.row_bytes = 96, .granule_rows = 4, .page_slots = 4, .gap = 32};
constexpr TierGeometry geometry{.sequences = 3, .lanes = 5, .granules = 33, .part_bytes = 384};
constexpr std::size_t slab_bytes = 126976;  // 5 * 33 * 768 = 126720, in whole pages
constexpr std::size_t staging_bytes = 16 + 20 * (16 + 768);

/// A tier, a pool, and what both hold.
struct Bench {
  Bench() : tier(geometry, {.staging_granules = 20}), slabs(geometry.sequences) {
    pool_bytes = test::random_bytes(shape.bytes(), 1);
    pool = test::upload(pool_bytes);
    moved = test::filled<std::uint64_t>(std::size_t{geometry.sequences} * geometry.lanes, 0);
    moved_bytes.resize(moved.size());
  }

  void open(std::uint32_t sequence) {
    tier.open(sequence, stream);
    auto& slab = slabs[sequence].emplace(
        test::random_bytes(std::size_t{geometry.lanes} * geometry.granules * 768, 50 + sequence));
    for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
      for (std::uint32_t granule = 0; granule < geometry.granules; ++granule) {
        auto const to = tier.granule({sequence, lane, granule});
        std::copy_n(slab.begin() + (lane * geometry.granules + granule) * 768, 768, to.begin());
      }
    }
  }

  void close(std::uint32_t sequence) {
    tier.close(sequence, stream);
    slabs[sequence].reset();
  }

  /// Jobs of open sequences.
  [[nodiscard]] std::vector<MoveJob> jobs(std::size_t count, bool whole, std::uint64_t seed) const {
    auto all = test::random_jobs(shape, geometry, count, whole, seed);
    std::erase_if(all, [&](MoveJob const& job) { return !slabs[job.sequence].has_value(); });
    return all;
  }

  void thaw(Span<MoveJob const> list, Span<std::uint32_t const> count) {
    tier.thaw_async(list, count, shape.view(pool), moved, stream);
  }

  void freeze(Span<MoveJob const> list, Span<std::uint32_t const> count) {
    tier.freeze_async(list, count, shape.view(pool), moved, stream);
  }

  void expect(std::vector<MoveJob> const& list, bool to_pool) {
    for (MoveJob const& job : list) {
      test::for_each_part(
          shape, geometry, job,
          [&](std::size_t at, std::uint32_t sequence, std::size_t in_slab, std::size_t bytes) {
            auto const slab = slabs[sequence]->begin() + static_cast<std::ptrdiff_t>(in_slab);
            auto const row = pool_bytes.begin() + static_cast<std::ptrdiff_t>(at);
            if (to_pool) {
              std::copy_n(slab, bytes, row);
            } else {
              std::copy_n(row, bytes, slab);
            }
          });
    }
    auto const bytes = test::bytes_of_lanes(shape, geometry, list);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      moved_bytes[i] += bytes[i];
    }
  }

  void move(std::size_t count, bool to_pool, bool whole, std::uint64_t seed) {
    auto list = jobs(count, whole, seed);
    auto const device = test::upload(list);
    auto const used = static_cast<std::uint32_t>(list.size() - list.size() / 4);
    auto const counter = test::filled<std::uint32_t>(1, used);
    if (to_pool) {
      thaw(device, counter);
    } else {
      freeze(device, counter);
    }
    stream.wait();  // before the list goes
    list.resize(used);
    expect(list, to_pool);
  }

  void check() {
    REQUIRE(test::first_difference(test::download(pool, stream), pool_bytes) == -1);
    REQUIRE(test::download(moved, stream) == moved_bytes);
    std::size_t unequal = 0;
    for (std::uint32_t sequence = 0; sequence < geometry.sequences; ++sequence) {
      for (std::uint32_t lane = 0; slabs[sequence] && lane < geometry.lanes; ++lane) {
        for (std::uint32_t granule = 0; granule < geometry.granules; ++granule) {
          auto const held = tier.granule({sequence, lane, granule});
          auto const expected =
              slabs[sequence]->begin() + (lane * geometry.granules + granule) * 768;
          unequal += std::equal(held.begin(), held.end(), expected) ? 0 : 1;
        }
      }
    }
    REQUIRE(unequal == 0);
  }

  test::Stream stream;
  PinnedTier tier;
  std::vector<std::byte> pool_bytes;
  std::vector<std::optional<std::vector<std::byte>>> slabs;
  std::vector<std::uint64_t> moved_bytes;
  DeviceArray<std::byte> pool;
  DeviceArray<std::uint64_t> moved;
};

/// Random moves while sequences come and go.
void random_history(std::uint64_t seed, std::size_t pins_from_sometimes) {
  laws::Random random(seed);
  Bench bench;
  for (int round = 0; round < 30; ++round) {
    std::uint32_t const sequence = random.below(geometry.sequences);
    if (random.below(3) == 0) {
      if (bench.tier.is_open(sequence)) {
        bench.close(sequence);
      } else {
        Faulty const now({.pins_from = random.below(2) == 0
                                           ? pins_from_sometimes
                                           : std::numeric_limits<std::size_t>::max()});
        bench.open(sequence);
      }
    }
    bench.move(random.below(60), random.below(2) == 0, random.below(2) == 0, random());
    std::size_t open = 0;
    for (auto const& slab : bench.slabs) {
      open += slab.has_value() ? 1 : 0;
    }
    REQUIRE(bench.tier.bytes() == open * slab_bytes + (bench.tier.is_pinned() ? 0 : staging_bytes));
    REQUIRE(bench.tier.warning().empty() == bench.tier.is_pinned());
    if (round % 5 == 0) {
      bench.check();
    }
  }
  bench.check();
}

}  // namespace

extern "C" cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned flags) {
  if (bytes >= faults.pins_from) {
    return faults.pin_status;
  }
  return real<cudaError_t(void**, std::size_t, unsigned)>("cudaHostAlloc")(memory, bytes, flags);
}

extern "C" cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (faults.host_functions) {
    return cudaErrorNotSupported;
  }
  return real<cudaError_t(cudaStream_t, cudaHostFn_t, void*)>("cudaLaunchHostFunc")(stream,
                                                                                    function, data);
}

extern "C" cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block,
                                          void** arguments, std::size_t shared,
                                          cudaStream_t stream) {
  return real<cudaError_t(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t)>(
      "__cudaLaunchKernel")(kernel, faults.launches ? dim3(0) : grid, block, arguments, shared,
                            stream);
}

TEST_CASE("Rows lie in pinned memory and come back bit for bit", "[pinned]") {
  for (std::uint64_t seed = 1; seed < 4; ++seed) {
    random_history(seed, std::numeric_limits<std::size_t>::max());
  }
}

TEST_CASE("Where memory is not pinned rows move through the host, as exactly", "[pinned]") {
  for (std::uint64_t seed = 1; seed < 6; ++seed) {
    random_history(seed, slab_bytes);
  }
}

TEST_CASE("bytes() and the capacity count whole slabs", "[pinned]") {
  test::Stream const stream;
  PinnedTier tier(geometry, {.capacity_bytes = 2 * slab_bytes, .staging_granules = 20});
  CHECK(tier.bytes() == 0);
  CHECK(tier.slab_bytes() == slab_bytes);
  CHECK(tier.device_bytes() == 3 * sizeof(void*));
  CHECK_FALSE(tier.is_open(1));
  tier.open(1, stream);
  CHECK(tier.is_open(1));
  CHECK(tier.bytes() == slab_bytes);
  tier.open(0, stream);
  try {
    tier.open(2, stream);
    FAIL("opened beyond its capacity");
  } catch (CapacityError const& error) {
    CHECK(error.needed() == 3 * slab_bytes);
    CHECK(error.available() == 2 * slab_bytes);
  }
  CHECK(tier.bytes() == 2 * slab_bytes);
  tier.close(1, stream);
  CHECK(tier.bytes() == slab_bytes);
  Faulty const now({.pins_from = slab_bytes});
  CHECK_THROWS_AS(tier.open(2, stream), CapacityError);  // its buffer does not fit as well
  CHECK(tier.bytes() == slab_bytes);
  CHECK(tier.is_pinned());
  PinnedTier moved(std::move(tier));
  CHECK(moved.bytes() == slab_bytes);
  CHECK(moved.is_open(0));
}

TEST_CASE("A refusal to pin is told, other failures are thrown", "[pinned]") {
  Bench bench;
  {
    Faulty const now({.pins_from = slab_bytes});
    bench.open(2);
  }
  CHECK_FALSE(bench.tier.is_pinned());
  CHECK_THAT(bench.tier.warning(),
             Catch::Contains("sequence 2") && Catch::Contains("cudaHostAlloc of 126976 bytes"));
  bench.open(0);  // pinned, but moves with the others
  bench.move(60, true, true, 9);
  bench.move(60, false, false, 10);
  bench.check();
  {
    Faulty const now({.host_functions = true});
    CHECK_THROWS_AS(bench.move(60, true, true, 11), CudaError);
  }
  bench.check();
  bench.close(2);
  CHECK(bench.tier.is_pinned());
  CHECK(bench.tier.bytes() == slab_bytes);
  {
    Faulty const now({.pins_from = 1});  // not even the buffer
    CHECK_THROWS_AS(bench.tier.open(2, bench.stream), OutOfMemory);
  }
  {
    Faulty const now({.pins_from = 1, .pin_status = cudaErrorUnknown});
    CHECK_THROWS_AS(bench.tier.open(2, bench.stream), CudaError);
  }
  {
    Faulty const now({.launches = true});
    CHECK_THROWS_WITH(bench.tier.open(2, bench.stream), Catch::Contains("set_slab_kernel"));
    CHECK_THROWS_WITH(bench.move(60, true, true, 12), Catch::Contains("move_kernel"));
  }
  CHECK_FALSE(bench.tier.is_open(2));
  CHECK(bench.tier.bytes() == slab_bytes);
  bench.move(60, true, true, 13);
  bench.check();
}

TEST_CASE("A captured thaw is replayed with other jobs, pinned or not", "[pinned]") {
  for (bool const pinned : {true, false}) {
    Bench bench;
    {
      Faulty const now(
          {.pins_from = pinned ? std::numeric_limits<std::size_t>::max() : slab_bytes});
      bench.open(1);
    }
    DeviceArray<MoveJob> const list(50);  // three rounds of the buffer
    DeviceArray<std::uint32_t> const count(1);
    test::Graph const graph(bench.stream, [&] {
      bench.thaw(list, count);
      bench.freeze(list, count);
    });
    for (std::uint64_t seed = 20; seed < 24; ++seed) {
      auto jobs = bench.jobs(50 * (seed % 3), true, seed);
      jobs.resize(std::min<std::size_t>(jobs.size(), 50));
      auto const n = static_cast<std::uint32_t>(jobs.size());
      check(cudaMemcpy(list.data(), jobs.data(), n * sizeof(MoveJob), cudaMemcpyHostToDevice),
            "jobs");
      check(cudaMemcpy(count.data(), &n, sizeof n, cudaMemcpyHostToDevice), "count");
      graph.launch(bench.stream);
      bench.expect(jobs, true);
      bench.expect(jobs, false);
      bench.check();
    }
  }
}

TEST_CASE("A move waits for nothing and allocates nothing", "[pinned]") {
  for (bool const pinned : {true, false}) {
    Bench bench;
    {
      Faulty const now(
          {.pins_from = pinned ? std::numeric_limits<std::size_t>::max() : slab_bytes});
      bench.open(0);
    }
    auto jobs = bench.jobs(64, true, 30);
    jobs.resize(19);
    auto const list = test::upload(jobs);
    auto const count = test::filled<std::uint32_t>(1, 19);
    auto const stats = test::count(bench.stream, [&] { bench.thaw(list, count); });
    bench.expect(jobs, true);
    bench.check();
    if (!stats) {
      WARN("nobody counts here");
      continue;
    }
    CHECK(stats->host_syncs == 0);
    CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
    CHECK(stats->kernel_launches == (pinned ? 1 : 2));
    CHECK(stats->host_functions == (pinned ? 0 : 1));
    // Stores: the rows; without pinned memory the list to the host too.
    CHECK(stats->global_store_bytes == 19 * 768 + (pinned ? 0 : 16 + 19 * sizeof(MoveJob)));
    CHECK(stats->bytes_h2d + stats->bytes_d2h == 0);
  }
}

TEST_CASE("A tier that cannot be is refused", "[pinned]") {
  test::Stream const stream;
  auto const refused = [](TierGeometry const& g, std::string const& what) {
    CHECK_THROWS_WITH(PinnedTier(g), Catch::Contains(what));
  };
  TierGeometry g = geometry;
  g.sequences = 65537;
  refused(g, "sequences is 65537");
  g = geometry;
  g.lanes = 0;
  refused(g, "lanes is 0");
  g = geometry;
  g.granules = 0;
  refused(g, "granules is 0");
  g = geometry;
  g.part_bytes = 40;
  refused(g, "part_bytes is 40");
  g.part_bytes = std::size_t{1} << 60U;
  CHECK_THROWS_AS(PinnedTier(g), OutOfMemory);
  CHECK_THROWS_WITH(PinnedTier(geometry, {.staging_granules = 0}),
                    Catch::Contains("staging_granules is 0"));
  PinnedTier tier(geometry);
  tier.open(1, stream);
  CHECK_THROWS_WITH(tier.open(1, stream), Catch::Contains("sequence 1 is open already"));
  CHECK_THROWS_WITH(tier.open(3, stream), Catch::Contains("sequence 3 is not below 3"));
  CHECK_THROWS_WITH(tier.close(0, stream), Catch::Contains("sequence 0 is not open"));
  CHECK_THROWS_WITH(tier.close(7, stream), Catch::Contains("sequence 7 is not open"));
  CHECK_THROWS_AS(tier.granule({0, 0, 0}), TierError);
  CHECK_THROWS_AS(tier.granule({1, 5, 0}), TierError);
  CHECK_THROWS_AS(tier.granule({1, 0, 33}), TierError);
}
