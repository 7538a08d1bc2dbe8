#include <kvfreeze/gpu/copy_batch.cuh>
#include <kvfreeze/gpu/movers.cuh>

#include <catch2/catch.hpp>

#include <array>
#include <cstdint>
#include <dlfcn.h>
#include <gpu/device.cuh>
#include <gpu/moved_rows.cuh>
#include <span>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

cudaError_t batch_status = cudaSuccess;  // what cudaMemcpyBatchAsync answers instead of working

/// Pinned slabs, a pool, and what both hold as long as nothing moves.
struct Bench {
  Bench(test::PoolShape const& pool_shape, TierGeometry const& g) : shape(pool_shape), geometry(g) {
    pool_bytes = test::random_bytes(shape.bytes(), 1);
    pool = test::upload(pool_bytes);
    std::vector<std::byte*> addresses;
    std::size_t const slab_bytes =
        std::size_t{geometry.lanes} * geometry.granules * 2 * geometry.part_bytes;
    for (std::uint32_t sequence = 0; sequence < geometry.sequences; ++sequence) {
      slab_contents.push_back(test::random_bytes(slab_bytes, 2 + sequence));
      slabs.emplace_back(slab_bytes);
      std::copy(slab_contents.back().begin(), slab_contents.back().end(), slabs.back().begin());
      addresses.push_back(slabs.back().device());
    }
    table = test::upload(addresses);
    moved = test::filled<std::uint64_t>(std::size_t{geometry.sequences} * geometry.lanes, 7);
  }

  [[nodiscard]] TierSlots slots() const {
    return {Span<std::byte* const>(table.data(), table.size()), geometry};
  }

  void thaw(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
            test::Stream const& stream) const {
    thaw_async(jobs, count, slots(), shape.view(pool), moved, stream);
  }

  void freeze(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
              test::Stream const& stream) const {
    freeze_async(jobs, count, shape.view(pool), slots(), moved, stream);
  }

  /// What a move has to do.
  void expect(std::vector<MoveJob> const& jobs, bool to_pool) {
    for (MoveJob const& job : jobs) {
      test::for_each_part(
          shape, geometry, job,
          [&](std::size_t at, std::uint32_t sequence, std::size_t in_slab, std::size_t bytes) {
            auto const slab =
                slab_contents[sequence].begin() + static_cast<std::ptrdiff_t>(in_slab);
            auto const row = pool_bytes.begin() + static_cast<std::ptrdiff_t>(at);
            if (to_pool) {
              std::copy_n(slab, bytes, row);
            } else {
              std::copy_n(row, bytes, slab);
            }
          });
    }
    std::vector<std::uint64_t> const bytes = test::bytes_of_lanes(shape, geometry, jobs);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      moved_bytes.resize(bytes.size(), 7);
      moved_bytes[i] += bytes[i];
    }
  }

  /// Every byte on both sides, moved or not.
  void check(test::Stream const& stream) const {
    REQUIRE(test::first_difference(test::download(pool, stream), pool_bytes) == -1);
    for (std::size_t i = 0; i < slabs.size(); ++i) {
      std::span<std::byte const> const slab(slabs[i].data(), slabs[i].size());
      REQUIRE(test::first_difference(slab, slab_contents[i]) == -1);
    }
    REQUIRE(test::download(moved, stream) == moved_bytes);
  }

  test::PoolShape shape;
  TierGeometry geometry;
  std::vector<std::byte> pool_bytes;
  std::vector<std::vector<std::byte>> slab_contents;
  std::vector<std::uint64_t> moved_bytes;
  DeviceArray<std::byte> pool;
  std::vector<PinnedArray<std::byte>> slabs;
  DeviceArray<std::byte*> table;
  DeviceArray<std::uint64_t> moved;
};

void move_both_ways(test::PoolShape const& shape, bool whole, std::uint64_t seed) {
  CAPTURE(shape.row_bytes, shape.granule_rows, shape.page_slots, whole);
  test::Stream const stream;
  Bench bench(shape,
              {.sequences = 2, .lanes = 3, .granules = 21, .part_bytes = shape.part_bytes()});
  for (bool const to_pool : {true, false, true}) {
    auto jobs = test::random_jobs(shape, bench.geometry, 60, whole, seed++);
    auto const list = test::upload(jobs);
    auto const used = static_cast<std::uint32_t>(jobs.size() * 2 / 3);
    auto const count = test::filled<std::uint32_t>(1, used);
    if (to_pool) {
      bench.thaw(list, count, stream);
    } else {
      bench.freeze(list, count, stream);
    }
    jobs.resize(used);
    bench.expect(jobs, to_pool);
    bench.check(stream);
  }
}

}  // namespace

extern "C" cudaError_t cudaMemcpyBatchAsync(void* const* to, void const* const* from,
                                            std::size_t const* bytes, std::size_t count,
                                            cudaMemcpyAttributes* attributes, std::size_t* firsts,
                                            std::size_t attribute_count, cudaStream_t stream) {
  if (batch_status != cudaSuccess) {
    return batch_status;
  }
  using Function = cudaError_t(void* const*, void const* const*, std::size_t const*, std::size_t,
                               cudaMemcpyAttributes*, std::size_t*, std::size_t, cudaStream_t);
  static auto* const real = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, "cudaMemcpyBatchAsync"));
  return real(to, from, bytes, count, attributes, firsts, attribute_count, stream);
}

TEST_CASE("Rows of all sizes move bit for bit, and nothing else does", "[movers]") {
  std::uint64_t seed = 100;
  for (std::uint32_t const row_bytes : {16U, 48U, 64U, 128U, 192U, 256U, 512U, 1024U}) {
    for (std::uint32_t const granule_rows : {1U, 4U, 16U}) {
      move_both_ways({.row_bytes = row_bytes, .granule_rows = granule_rows}, true, seed += 3);
      move_both_ways(
          {.row_bytes = row_bytes, .granule_rows = granule_rows, .page_slots = 16, .gap = 48},
          granule_rows == 1, seed += 3);
    }
  }
  move_both_ways({.row_bytes = 16384, .slots = 8}, true, seed += 3);
  move_both_ways({.row_bytes = 8208, .granule_rows = 2, .page_slots = 4, .slots = 8}, false,
                 seed += 3);
}

TEST_CASE("A counter beyond the list counts as all of it", "[movers]") {
  test::Stream const stream;
  test::PoolShape const shape{.row_bytes = 128, .slots = 4096};
  Bench bench(shape, {.sequences = 1, .lanes = 2, .granules = 2000, .part_bytes = 128});
  auto const jobs = test::random_jobs(shape, bench.geometry, 3001, true, 5);
  auto const list = test::upload(jobs);
  bench.thaw(list, test::filled<std::uint32_t>(1, 0), stream);
  bench.thaw(Span<MoveJob const>(), test::filled<std::uint32_t>(1, 9), stream);
  bench.expect({}, true);
  bench.check(stream);
  bench.thaw(list, test::filled<std::uint32_t>(1, 4000), stream);
  bench.expect(jobs, true);
  bench.check(stream);
}

TEST_CASE("What goes over the link is what the counters say", "[movers]") {
  test::Stream const stream;
  for (std::uint32_t const row_bytes : {64U, 128U, 192U, 256U, 2048U, 8192U}) {
    CAPTURE(row_bytes);
    test::PoolShape const shape{.row_bytes = row_bytes, .page_slots = 16, .gap = 64, .slots = 512};
    Bench bench(shape,
                {.sequences = 1, .lanes = 4, .granules = 128, .part_bytes = shape.part_bytes()});
    auto const jobs = test::random_jobs(shape, bench.geometry, 400, true, row_bytes);
    auto const list = test::upload(jobs);
    auto const count = test::filled<std::uint32_t>(1, 400);
    std::vector<MoveJob> nothing = jobs;
    for (MoveJob& job : nothing) {
      job.rows = 0;
    }
    auto const idle = test::upload(nothing);
    for (bool const to_pool : {true, false}) {
      auto const counted = [&](Span<MoveJob const> of) {
        return test::count(stream, [&] {
          if (to_pool) {
            bench.thaw(of, count, stream);
          } else {
            bench.freeze(of, count, stream);
          }
        });
      };
      auto const without_rows = counted(idle);  // reads the list all the same
      auto const stats = counted(list);
      bench.expect(jobs, to_pool);
      bench.check(stream);
      if (!stats) {
        WARN("nobody counts here");
        continue;
      }
      std::uint64_t const rows = 400ULL * 2 * row_bytes;
      CHECK(stats->kernel_launches == 1);
      CHECK(stats->host_syncs == 0);
      CHECK(stats->mallocs + stats->async_mallocs + stats->host_allocs == 0);
      CHECK(stats->atomics == 400);
      CHECK(stats->global_store_bytes == rows);
      CHECK(stats->global_store_sectors * 32 == rows);
      CHECK(stats->global_load_bytes - without_rows->global_load_bytes == rows);
      CHECK((stats->global_load_sectors - without_rows->global_load_sectors) * 32 == rows);
      // The list and its length are read on the device, once for 128 bytes to 2 KiB of rows.
      std::uint64_t const stretches = (2 * row_bytes + 2047) / 2048;
      CHECK(without_rows->global_load_sectors <= 3 * 400 * stretches);
    }
  }
}

TEST_CASE("A captured move is replayed with other jobs", "[movers]") {
  test::Stream const stream;
  test::PoolShape const shape{.row_bytes = 96, .granule_rows = 4, .page_slots = 4};
  Bench bench(shape, {.sequences = 2, .lanes = 2, .granules = 32, .part_bytes = 384});
  DeviceArray<MoveJob> const list(64);
  DeviceArray<std::uint32_t> const count(1);
  test::Graph const graph(stream, [&] { bench.thaw(list, count, stream); });
  for (std::uint32_t const jobs_now : {3U, 0U, 60U}) {
    auto const jobs = test::random_jobs(shape, bench.geometry, jobs_now, false, jobs_now);
    stream.wait();
    check(
        cudaMemcpy(list.data(), jobs.data(), jobs.size() * sizeof(MoveJob), cudaMemcpyHostToDevice),
        "jobs");
    check(cudaMemcpy(count.data(), &jobs_now, sizeof jobs_now, cudaMemcpyHostToDevice), "count");
    graph.launch(stream);
    bench.expect(jobs, true);
    bench.check(stream);
  }
}

TEST_CASE("Moves that cannot be are refused before anything runs", "[movers]") {
  test::Stream const stream;
  test::PoolShape const shape{.row_bytes = 64, .page_slots = 4, .slots = 8};
  Bench bench(shape, {.sequences = 1, .lanes = 2, .granules = 4, .part_bytes = 64});
  auto const jobs = test::upload(test::random_jobs(shape, bench.geometry, 2, true, 1));
  auto const count = test::filled<std::uint32_t>(1, 2);
  auto const refused = [&](GranulePool const& pool, std::string const& what) {
    CHECK_THROWS_WITH(thaw_async(jobs, count, bench.slots(), pool, bench.moved, stream),
                      Catch::Contains(what));
  };
  GranulePool const pool = shape.view(bench.pool);
  GranulePool bad = pool;
  bad.row_bytes = 72;
  refused(bad, "GranulePool::row_bytes is 72");
  bad = pool;
  bad.row_bytes = 0;
  refused(bad, "GranulePool::row_bytes is 0");
  bad = pool;
  bad.page_slots = 3;
  refused(bad, "GranulePool::page_slots is 3");
  bad = pool;
  bad.values_offset = 240;
  refused(bad, "GranulePool::values_offset is 240, must be at least 256");
  bad = pool;
  bad.page_bytes = 496;
  refused(bad, "GranulePool::page_bytes is 496, must be at least 512");
  bad = pool;
  bad.granule_rows = 256;
  refused(bad, "GranulePool::granule_rows is 256");
  bad = pool;
  bad.memory = bad.memory.subspan(8, 512);
  refused(bad, "memory.data() modulo 16 is 8");
  bad = pool;
  bad.memory = bad.memory.subspan(16);
  refused(bad, "memory.size()");
  bad = pool;
  bad.row_bytes = 32;
  refused(bad, "32 bytes in the pool and 64 in the tier");
  auto const two = test::filled<std::uint32_t>(2, 1);
  CHECK_THROWS_WITH(freeze_async(jobs, two, pool, bench.slots(), bench.moved, stream),
                    Catch::Contains("count has 2 elements"));
  auto const three = test::filled<std::uint64_t>(3, 0);
  CHECK_THROWS_WITH(freeze_async(jobs, count, pool, bench.slots(), three, stream),
                    Catch::Contains("moved_bytes has 3 elements, expected 2"));
  bench.expect({}, true);
  bench.check(stream);
}

TEST_CASE("A batch of copies is one call, or many where that is not supported", "[movers]") {
  test::Stream const stream;
  constexpr std::size_t blocks = 9;
  constexpr std::size_t block = 40000;
  auto const bytes = test::random_bytes(blocks * block, 3);
  PinnedArray<std::byte> host(bytes.size());
  PinnedArray<std::byte> back(bytes.size());
  std::copy(bytes.begin(), bytes.end(), host.begin());
  for (cudaError_t const status : {cudaSuccess, cudaErrorNotSupported}) {
    batch_status = status;
    DeviceArray<std::byte> const device(bytes.size());
    std::fill(back.begin(), back.end(), std::byte{0});
    std::vector<void*> there;
    std::vector<void*> home;
    std::vector<void const*> from;
    std::vector<std::size_t> sizes;
    for (std::size_t i = 0; i < blocks; ++i) {
      std::size_t const at = (i * 5 + 2) % blocks * block;
      there.push_back(device.data() + at);
      from.push_back(host.data() + at);
      home.push_back(back.data() + at);
      sizes.push_back(block - i);
    }
    std::vector<void const*> const from_there(there.begin(), there.end());
    check(cudaMemsetAsync(device.data(), 0, device.size_bytes(), stream.get()), "memset");
    auto const stats = test::count(stream, [&] {
      copy_batch_async(there, from, sizes, stream);
      copy_batch_async(home, from_there, sizes, stream);
    });
    std::vector<std::byte> expected(bytes.size());
    std::size_t moved = 0;
    for (std::size_t i = 0; i < blocks; ++i) {
      std::size_t const at = (i * 5 + 2) % blocks * block;
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), sizes[i],
                  expected.begin() + static_cast<std::ptrdiff_t>(at));
      moved += sizes[i];
    }
    CHECK(std::equal(back.begin(), back.end(), expected.begin()));
    if (stats) {
      CHECK(stats->bytes_h2d == moved);
      CHECK(stats->bytes_d2h == moved);
      CHECK(stats->host_syncs == 0);
    }

    // In a graph, and on the legacy stream: block by block whatever the driver has.
    std::fill(back.begin(), back.end(), std::byte{0});
    test::Graph const graph(stream, [&] { copy_batch_async(home, from_there, sizes, stream); });
    graph.launch(stream);
    stream.wait();
    CHECK(std::equal(back.begin(), back.end(), expected.begin()));
  }
  batch_status = cudaErrorInvalidValue;
  std::array<void*, 1> const to{back.data()};
  std::array<void const*, 1> const from{host.data()};
  std::array<std::size_t, 1> const size{16};
  CHECK_THROWS_AS(copy_batch_async(to, from, size, stream), CudaError);
  batch_status = cudaSuccess;
  CHECK_NOTHROW(copy_batch_async({}, {}, {}, stream));
  CHECK_THROWS_WITH(copy_batch_async(to, from, {}, stream), Catch::Contains("0 sizes"));
  std::array<std::size_t, 1> const nothing{0};
  CHECK_THROWS_WITH(copy_batch_async(to, from, nothing, stream), Catch::Contains("bytes[0] is 0"));
}
