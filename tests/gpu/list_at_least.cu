#include <kvfreeze/gpu/list_at_least.cuh>
#include <kvfreeze/host/kernels/mass_threshold.hpp>

#include <catch2/catch.hpp>

#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <random>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

TEST_CASE("Lists of the rows above thresholds are the host's", "[list_at_least]") {
  test::Stream const stream;
  std::mt19937 random(3);
  std::vector<std::vector<std::uint32_t>> values;
  std::vector<std::vector<std::uint8_t>> states;
  std::vector<DeviceArray<std::uint32_t>> device_values, lists;
  std::vector<DeviceArray<std::uint8_t>> device_states;
  std::vector<ThresholdList> described;
  int longest = 0;
  for (int const n : {0, 1, 15, 4095, 4096, 4097, 70000}) {
    for (std::uint32_t const threshold : {0U, 1U, 5000U, 1U << 20, 1U << 30, 0xFFFFFFFFU}) {
      std::size_t const skew = described.size() % 5;  // misaligned as often as not
      auto const size = static_cast<std::size_t>(n) + skew;
      auto& v = values.emplace_back();
      auto& s = states.emplace_back();
      for (std::size_t i = 0; i < size; ++i) {
        v.push_back(static_cast<std::uint32_t>(random()) >> 1 >> (random() % 31));
        s.push_back(
            static_cast<std::uint8_t>(random() % 2 != 0 ? 2U + (random() & 0xF8U) : random()));
      }
      device_values.push_back(test::upload(v));
      device_states.push_back(test::upload(s));
      lists.push_back(test::filled(static_cast<std::size_t>(n) + 1, 99U));
      ThresholdList list;
      list.values = device_values.back().data() + skew;
      list.states = described.size() % 3 == 0 ? nullptr : device_states.back().data() + skew;
      list.rows = n;
      list.threshold = threshold;
      list.list = lists.back().data();
      described.push_back(list);
      longest = std::max(longest, n);
      v.erase(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(skew));
      s.erase(s.begin(), s.begin() + static_cast<std::ptrdiff_t>(skew));
    }
  }
  auto const device = test::upload(described);
  DeviceArray<std::uint32_t> const counts(described.size());
  Workspace const workspace(list_at_least_workspace_bytes(described.size(), longest));
  auto const stats = test::count(stream, [&] {
    list_at_least_async(DescribedLists{device.span()}, longest, counts, workspace, stream);
  });
  if (stats) {
    CHECK(stats->kernel_launches == 1);
    CHECK(stats->host_syncs + stats->mallocs == 0);
  }
  auto const found = test::download(counts, stream);
  for (std::size_t i = 0; i < described.size(); ++i) {
    CAPTURE(i, described[i].rows, described[i].threshold);
    std::vector<std::uint32_t> expected(values[i].size() + 1, 99U);
    int const count = host::list_at_least(
        values[i].data(), described[i].states == nullptr ? nullptr : states[i].data(),
        described[i].rows, described[i].threshold, expected.data());
    auto list = test::download(lists[i], stream);
    CHECK(list.back() == 99);
    expected.resize(static_cast<std::size_t>(count));
    list.resize(found[i]);
    CHECK((list == expected));
  }
}

TEST_CASE("Lists refuse what does not fit", "[list_at_least]") {
  test::Stream const stream;
  DeviceArray<std::uint32_t> const counts(2);
  CHECK_THROWS_AS(list_at_least_workspace_bytes(2, -1), InvalidArgument);
  CHECK_THROWS_AS(list_at_least_async(DescribedLists{}, 10, counts, {}, stream), InvalidArgument);
  CHECK_NOTHROW(list_at_least_async(DescribedLists{}, 10, {}, {}, stream));
}
