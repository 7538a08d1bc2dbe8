#include <kvfreeze/gpu/detail/cooperative_launch.cuh>
#include <kvfreeze/gpu/detail/lane_barrier.cuh>
#include <kvfreeze/gpu/detail/lane_share.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <numeric>
#include <random>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace lane_barrier_test {

constexpr int threads = 256;
constexpr int room = 8;
constexpr int rounds = 5;

/// What a launch works on, by address.
struct Arguments {
  std::uint32_t const* work;  ///< [lanes]
  int lanes;
  std::uint32_t* barriers;  ///< [lanes]
  std::uint32_t* notes;     ///< [lanes][room]
  std::uint32_t* blocks;    ///< [lanes]: that came
  std::uint32_t* wrong;     ///< sums that lacked a block's note
  std::uint32_t* last;      ///< [lanes]: blocks that were the last
  std::uint32_t* elected;   ///< [lanes]: blocks that went on for all, added up by these
};

/// In each round every block of a lane leaves a note and then reads those of all.
__global__ __attribute__((visibility("hidden"))) void meet_kernel(Arguments a) {
  __shared__ gpu::detail::LaneShare<threads>::Storage storage;
  __shared__ bool flag;
  gpu::detail::LaneShare<threads> const share(storage, a.work, a.lanes, room);
  gpu::detail::LanePlace const place = share.place;
  if (place.lane >= a.lanes || a.work[place.lane] == 0) {
    return;
  }
  gpu::detail::LaneBarrier const barrier{
      a.barriers + place.lane, static_cast<std::uint32_t>(place.blocks), place.block == 0};
  std::uint32_t* const notes = a.notes + place.lane * room;
  if (threadIdx.x == 0) {
    atomicAdd(&a.blocks[place.lane], 1U);
  }
  for (std::uint32_t round = 1; round <= rounds; ++round) {
    if (threadIdx.x == threads - 1) {
      notes[place.block] = round;
    }
    std::uint32_t const arrived = barrier.arrive();
    barrier.wait(arrived);
    if (static_cast<int>(threadIdx.x) < place.blocks && notes[threadIdx.x] != round) {
      atomicAdd(a.wrong, 1U);
    }
    if (barrier.elects(flag)) {  // all have read
      if (threadIdx.x == threads - 1) {
        a.elected[place.lane] += 1;
      }
    }
    barrier.meet();
    if (__ldcg(&a.elected[place.lane]) % rounds != round % rounds) {
      atomicAdd(a.wrong, 1U);
    }
    barrier.meet();
  }
  if (threadIdx.x == threads - 1) {
    notes[place.block] = 77;
  }
  if (barrier.is_last(flag)) {
    if (static_cast<int>(threadIdx.x) < place.blocks && notes[threadIdx.x] != 77) {
      atomicAdd(a.wrong, 1U);
    }
    if (threadIdx.x == 0) {
      atomicAdd(&a.last[place.lane], 1U);
    }
  }
}

struct Result {
  std::vector<std::uint32_t> blocks;
  std::uint32_t wrong;
  std::vector<std::uint32_t> last;
};

/// One launch; the barriers are as the last one left them.
Result meet(std::vector<std::uint32_t> const& work, DeviceArray<std::uint32_t> const& barriers,
            unsigned grid, test::Stream const& stream) {
  auto const device_work = test::upload(work);
  auto const notes = test::filled(work.size() * room, 0U);
  auto const blocks = test::filled(work.size(), 0U);
  auto const last = test::filled(work.size(), 0U);
  auto const elected = test::filled(work.size(), 0U);
  auto const wrong = test::filled(1, 0U);
  Arguments const a{device_work.data(), static_cast<int>(work.size()),
                    barriers.data(),    notes.data(),
                    blocks.data(),      wrong.data(),
                    last.data(),        elected.data()};
  gpu::detail::launch_blocks(meet_kernel, "meet_kernel", grid, threads, 0, grid > work.size(),
                             stream, a);
  return {test::download(blocks, stream), test::download(wrong, stream)[0],
          test::download(last, stream)};
}

}  // namespace lane_barrier_test

TEST_CASE("Blocks of a lane meet, and share lanes by their work", "[lane_barrier]") {
  namespace own = lane_barrier_test;
  test::Stream const stream;
  unsigned const resident =
      gpu::detail::resident_blocks(own::meet_kernel, "meet_kernel", own::threads, 0);
  REQUIRE(resident >= 4);
  std::mt19937 random(9);
  auto const barriers = test::filled(4096, 0U);
  for (int i = 0; i < 40; ++i) {
    unsigned grid = std::min(resident, 1 + static_cast<unsigned>(random()) % 32);
    std::vector<std::uint32_t> work(1 + random() % (i % 4 == 0 ? 3 * grid : grid));
    grid = std::max(grid, static_cast<unsigned>(work.size()));
    for (std::uint32_t& w : work) {
      w = static_cast<std::uint32_t>(random() % 4 == 0 ? 0 : random() % (i % 2 == 0 ? 3 : 1000));
    }
    INFO("launch " << i << ": " << work.size() << " lanes, " << grid << " blocks");
    auto const found = own::meet(work, barriers, grid, stream);
    CHECK(found.wrong == 0);
    for (std::size_t lane = 0; lane < work.size(); ++lane) {
      INFO("lane " << lane << " of work " << work[lane]);
      REQUIRE((found.blocks[lane] != 0) == (work[lane] != 0));
      REQUIRE(found.blocks[lane] <= std::min(work[lane], std::uint32_t{own::room}));
      REQUIRE(found.last[lane] == (work[lane] != 0 ? 1 : 0));
    }
  }
}

TEST_CASE("Long lanes get more blocks", "[lane_barrier]") {
  namespace own = lane_barrier_test;
  test::Stream const stream;
  unsigned const resident =
      gpu::detail::resident_blocks(own::meet_kernel, "meet_kernel", own::threads, 0);
  unsigned const grid = std::min(resident, 12U);
  auto const barriers = test::filled(4, 0U);
  auto const found = own::meet({1000, 100, 0, 100}, barriers, grid, stream);
  CHECK(found.blocks[0] == std::min(1 + (grid - 3) * 1000 / 1200, 8U));
  CHECK(found.blocks[1] == 1 + (grid - 3) * 100 / 1200);
  CHECK(found.blocks[2] == 0);
  CHECK(found.blocks[3] == found.blocks[1]);
  CHECK(found.wrong == 0);
}

TEST_CASE("A launch of blocks that meet is captured", "[lane_barrier]") {
  namespace own = lane_barrier_test;
  test::Stream const stream;
  auto const work = test::filled(2, 100U);
  auto const barriers = test::filled(2, 0U);
  auto const notes = test::filled(2 * own::room, 0U);
  auto const blocks = test::filled(2, 0U);
  auto const last = test::filled(2, 0U);
  auto const elected = test::filled(2, 0U);
  auto const wrong = test::filled(1, 0U);
  own::Arguments const a{work.data(),  2,           barriers.data(), notes.data(), blocks.data(),
                         wrong.data(), last.data(), elected.data()};
  test::Graph const graph(stream, [&] {
    gpu::detail::launch_blocks(own::meet_kernel, "meet_kernel", 4, own::threads, 0, true, stream,
                               a);
  });
  graph.launch(stream);
  graph.launch(stream);
  CHECK(test::download(last, stream) == std::vector<std::uint32_t>{2, 2});
  CHECK(test::download(wrong, stream)[0] == 0);
}
