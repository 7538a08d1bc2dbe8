#include <kvfreeze/gpu/transfer_budget.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/moved_rows.cuh>
#include <laws/random.hpp>
#include <limits>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr std::uint64_t granule_bytes = 512;
constexpr std::uint32_t granules_of_lane = 8192;

/// Lists with gaps between them, and what becomes of them.
struct Lists {
  std::vector<MoveJob> jobs;
  std::vector<std::uint32_t> begins;
  std::vector<std::uint32_t> counts;
  std::vector<std::uint64_t> left;
  std::vector<std::uint32_t> deferred;
};

Lists random_lists(std::uint32_t lists, std::uint32_t most, std::uint64_t seed) {
  laws::Random random(seed);
  Lists all;
  for (std::uint32_t list = 0; list < lists; ++list) {
    std::uint32_t const room = random.below(most + 1);
    std::uint32_t const count = random.below(3) == 0 ? room : random.below(room + 1);
    all.begins.push_back(static_cast<std::uint32_t>(all.jobs.size()));
    all.counts.push_back(count);
    for (std::uint32_t i = 0; i < room; ++i) {
      all.jobs.push_back({random(), list, i, 0, 0, 1});
    }
    std::uint64_t const exactly = std::uint64_t{random.below(count + 2)} * granule_bytes;
    switch (random.below(4)) {
      case 0:
        all.left.push_back(unlimited);
        break;
      case 1:
        all.left.push_back(exactly);
        break;
      case 2:
        all.left.push_back(exactly + granule_bytes - 1);  // not another one
        break;
      default:
        all.left.push_back(exactly - (exactly > 0 ? 1 : 0));  // one less
    }
    all.deferred.push_back(random.below(3));
  }
  return all;
}

/// What the host does with one list: host::affordable_granules(), host::pay_transfer(), and
/// host::list_thaws() for the rest.
void keep_on_host(Lists& lists, std::vector<MoveJob>& kept, std::vector<std::uint8_t>& states) {
  for (std::size_t list = 0; list < lists.counts.size(); ++list) {
    std::uint64_t& left = lists.left[list];
    std::size_t const affordable =
        left == unlimited ? std::numeric_limits<std::size_t>::max() : left / granule_bytes;
    std::size_t const n = std::min<std::size_t>(affordable, lists.counts[list]);
    for (std::size_t i = 0; i < lists.counts[list]; ++i) {
      MoveJob const& job = lists.jobs[lists.begins[list] + i];
      if (i < n) {
        kept.push_back(job);
      } else {
        states[job.lane * granules_of_lane + job.granule] |= host::GranuleState::carried;
      }
    }
    left -= std::min<std::uint64_t>(left, n * granule_bytes);
    lists.deferred[list] += static_cast<std::uint32_t>(lists.counts[list] - n);
  }
}

bool same(MoveJob const& a, MoveJob const& b) {
  return a.slot == b.slot && a.lane == b.lane && a.granule == b.granule &&
         a.sequence == b.sequence && a.first_row == b.first_row && a.rows == b.rows;
}

/// host::plan_transfers() of one sequence.
std::vector<std::uint64_t> deal_on_host(std::vector<std::uint32_t> const& deferred,
                                        std::uint32_t step, std::size_t transfer_bytes) {
  auto const lanes = static_cast<std::uint32_t>(deferred.size());
  std::vector<std::uint64_t> allotments(lanes, unlimited);
  if (transfer_bytes == unlimited) {
    return allotments;
  }
  std::size_t const granules = transfer_bytes / granule_bytes;
  std::size_t const each = granules / lanes;
  auto rest = static_cast<std::uint32_t>(granules % lanes);
  std::uint32_t const start = step % lanes;
  for (bool const waited : {true, false}) {
    for (std::uint32_t i = 0; i < lanes; ++i) {
      std::uint32_t const lane = (start + i) % lanes;
      if ((deferred[lane] > 0) == waited) {
        std::size_t const extra = rest > 0 ? 1 : 0;
        rest -= rest > 0 ? 1U : 0U;
        allotments[lane] = (each + extra) * granule_bytes;
      }
    }
  }
  return allotments;
}

}  // namespace

TEST_CASE("What a budget pays for is what the host keeps", "[budget]") {
  test::Stream const stream;

  struct Case {
    std::uint32_t lists;
    std::uint32_t most;
  };

  for (auto const& [count, most] : {Case{0, 0}, Case{1, 0}, Case{1, 1}, Case{1, 8000}, Case{7, 300},
                                    Case{256, 9}, Case{1024, 3}, Case{2500, 5}}) {
    CAPTURE(count, most);
    Lists lists = random_lists(count, most, count + most);
    auto const jobs = test::upload(lists.jobs);
    auto const begins = test::upload(lists.begins);
    auto const counts = test::upload(lists.counts);
    auto const left = test::upload(lists.left);
    auto const deferred = test::upload(lists.deferred);
    auto const states_now = test::filled<std::uint8_t>(std::size_t{count} * granules_of_lane, 2);
    DeviceArray<MoveJob> const kept(lists.jobs.size());
    DeviceArray<std::uint32_t> const totals(2);
    Workspace const workspace(keep_affordable_workspace_bytes(count));
    auto const stats = test::count(stream, [&] {
      keep_affordable_async({jobs, begins, counts}, {left, deferred, granule_bytes}, {kept, totals},
                            CarryInStates{states_now, count, granules_of_lane}, workspace, stream);
    });
    std::vector<MoveJob> expected;
    std::vector<std::uint8_t> states(std::size_t{count} * granules_of_lane, 2);
    std::uint64_t before = 0;
    for (std::uint32_t const n : lists.deferred) {
      before += n;
    }
    keep_on_host(lists, expected, states);
    std::uint64_t after = 0;
    for (std::uint32_t const n : lists.deferred) {
      after += n;
    }
    auto const sums = test::download(totals, stream);
    REQUIRE(sums[0] == expected.size());
    REQUIRE(sums[1] == after - before);
    REQUIRE(test::first_difference(test::download(left, stream), lists.left) == -1);
    REQUIRE(test::first_difference(test::download(deferred, stream), lists.deferred) == -1);
    REQUIRE(test::first_difference(test::download(states_now, stream), states) == -1);
    if (!expected.empty()) {
      std::vector<MoveJob> out(expected.size());
      check(
          cudaMemcpy(out.data(), kept.data(), out.size() * sizeof(MoveJob), cudaMemcpyDeviceToHost),
          "kept");
      REQUIRE(std::equal(out.begin(), out.end(), expected.begin(), same));
    }
    if (stats) {
      CHECK(stats->kernel_launches == (lists.jobs.empty() ? 1 : 2));
      CHECK(stats->host_syncs == 0);
      CHECK(stats->mallocs + stats->async_mallocs == 0);
    }
  }
}

TEST_CASE("A budget is spent step by step in a graph", "[budget]") {
  test::Stream const stream;
  std::vector<MoveJob> jobs(10);
  for (std::uint32_t i = 0; i < 10; ++i) {
    jobs[i] = {i, 0, i, 0, 0, 1};
  }
  auto const list = test::upload(jobs);
  auto const begin = test::filled<std::uint32_t>(1, 0);
  auto const count = test::filled<std::uint32_t>(1, 4);
  auto const left = test::filled<std::uint64_t>(1, 10 * granule_bytes);
  auto const deferred = test::filled<std::uint32_t>(1, 0);
  DeviceArray<MoveJob> const kept(10);
  DeviceArray<std::uint32_t> const totals(2);
  Workspace const workspace(keep_affordable_workspace_bytes(1));
  test::Graph const graph(stream, [&] {
    keep_affordable_async({list, begin, count}, {left, deferred, granule_bytes}, {kept, totals},
                          CarryNothing{}, workspace, stream);
  });
  std::vector<std::uint32_t> seen;
  for (int step = 0; step < 4; ++step) {
    graph.launch(stream);
    seen.push_back(test::download(totals, stream)[0]);
  }
  CHECK(seen == std::vector<std::uint32_t>{4, 4, 2, 0});
  CHECK(test::download(deferred, stream)[0] == 6);
  CHECK(test::download(left, stream)[0] == 0);
}

TEST_CASE("A sequence's budget is dealt as the host deals it", "[budget]") {
  test::Stream const stream;
  laws::Random random(77);
  for (std::uint32_t const lanes : {1U, 2U, 31U, 256U, 257U, 1000U}) {
    for (int round = 0; round < 6; ++round) {
      std::uint32_t const sequences = 1 + random.below(4);
      std::vector<std::uint32_t> deferred(std::size_t{sequences} * lanes);
      for (auto& n : deferred) {
        n = random.below(round < 2 ? 2U : 40U) < 2 ? random.below(3) : 0;
      }
      std::vector<std::uint32_t> steps(sequences);
      for (auto& step : steps) {
        step = random();
      }
      std::size_t const bytes =
          round == 5 ? unlimited : granule_bytes * (lanes + random.below(3 * lanes)) + 100;
      auto const allotments = test::filled<std::uint64_t>(deferred.size(), 1);
      plan_transfers_async(test::upload(deferred), test::upload(steps), lanes, bytes, granule_bytes,
                           allotments, stream);
      std::vector<std::uint64_t> expected;
      for (std::uint32_t sequence = 0; sequence < sequences; ++sequence) {
        auto const first = deferred.begin() + static_cast<std::ptrdiff_t>(sequence) * lanes;
        auto const dealt = deal_on_host({first, first + lanes}, steps[sequence], bytes);
        expected.insert(expected.end(), dealt.begin(), dealt.end());
      }
      CAPTURE(lanes, round);
      REQUIRE(test::first_difference(test::download(allotments, stream), expected) == -1);
    }
  }
}

TEST_CASE("Budgets that do not fit their lists are refused", "[budget]") {
  test::Stream const stream;
  DeviceArray<MoveJob> const jobs(4);
  DeviceArray<MoveJob> const few(3);
  DeviceArray<std::uint32_t> const two(2);
  DeviceArray<std::uint32_t> const three(3);
  DeviceArray<std::uint64_t> const left(2);
  Workspace const workspace(keep_affordable_workspace_bytes(2));
  auto const keep = [&](TransferLists const& lists, TransferBudget const& budget,
                        KeptTransfers const& kept, Span<std::byte> memory) {
    keep_affordable_async(lists, budget, kept, CarryNothing{}, memory, stream);
  };
  TransferLists const lists{jobs, two, two};
  TransferBudget const budget{left, two, granule_bytes};
  KeptTransfers const kept{jobs, two};
  CHECK_THROWS_WITH(keep({jobs, three, two}, budget, kept, workspace),
                    Catch::Contains("begins has 3 elements, expected 2"));
  CHECK_THROWS_WITH(keep(lists, {left, three, 1}, kept, workspace),
                    Catch::Contains("deferred has 3"));
  CHECK_THROWS_WITH(keep(lists, {left, two, 0}, kept, workspace),
                    Catch::Contains("granule_bytes is 0"));
  CHECK_THROWS_WITH(keep(lists, budget, {few, two}, workspace),
                    Catch::Contains("room for 3 jobs, the lists may hold 4"));
  CHECK_THROWS_WITH(keep(lists, budget, {jobs, three}, workspace), Catch::Contains("totals has 3"));
  CHECK_THROWS_WITH(keep(lists, budget, kept, workspace.span().first(256)),
                    Catch::Contains("workspace has 256 bytes"));
  CHECK_THROWS_WITH(plan_transfers_async(three, two, 2, 1, 1, left, stream),
                    Catch::Contains("deferred has 3 elements, expected 4"));
  CHECK_THROWS_WITH(plan_transfers_async(two, two, 0, 1, 1, left, stream),
                    Catch::Contains("lanes is 0"));
}
