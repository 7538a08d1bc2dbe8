#include <kvfreeze/gpu/compact.cuh>
#include <kvfreeze/host/compact.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <gpu/device.cuh>
#include <gpu/segment_data.cuh>
#include <numeric>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

/// Any `Size` bytes, aligned as `Word`.
template <class Word, std::size_t Size>
struct Value {
  explicit Value(std::uint32_t seed = 0) {
    for (std::size_t i = 0; i < Size / sizeof(Word); ++i) {
      words[i] = static_cast<Word>(seed * 2654435761U >> (i % 24));
    }
  }

  Word words[Size / sizeof(Word)];

  friend bool operator==(Value const& a, Value const& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
};

struct alignas(16) Wide {
  explicit Wide(std::uint32_t seed = 0) : words{seed, ~seed, seed * 3, 7} {}

  std::uint32_t words[4];

  friend bool operator==(Wide const& a, Wide const& b) {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
  }
};

/// Flags with any non-zero values, `percent` of them set.
std::vector<std::uint8_t> flags_of(std::size_t n, unsigned percent, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint8_t> flags(n);
  for (auto& flag : flags) {
    flag = random() % 100 < percent ? static_cast<std::uint8_t>(1 + random() % 255) : 0;
  }
  return flags;
}

template <class T>
T value_of(std::uint32_t seed) {
  return static_cast<T>(seed);
}

template <>
Half value_of<Half>(std::uint32_t seed) {
  return {static_cast<std::uint16_t>(seed * 40503U)};
}

template <class T>
std::vector<T> values_of(std::size_t n) {
  std::vector<T> values;
  for (std::size_t i = 0; i < n; ++i) {
    values.push_back(value_of<T>(static_cast<std::uint32_t>(i + 1)));
  }
  return values;
}

std::vector<std::uint32_t> positions(std::size_t n) {
  std::vector<std::uint32_t> all(n);
  for (std::size_t i = 0; i < n; ++i) {
    all[i] = static_cast<std::uint32_t>(i);
  }
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("compact keeps what the host keeps", "[compact]", (Value<std::uint8_t, 3>), Half,
                   float, (Value<std::uint64_t, 8>), Wide) {
  test::Stream const stream;
  unsigned round = 0;
  for (std::size_t const n : {0U, 1U, 15U, 17U, 1000U, 8191U, 8192U, 16384U, 16385U, 40001U}) {
    for (unsigned const percent : {0U, 1U, 60U, 100U}) {
      ++round;
      auto const values = values_of<TestType>(n);
      auto const flags = flags_of(n, percent, round);
      std::vector<TestType> expected(n + 1, value_of<TestType>(9));
      auto const kept = host::compact<TestType>(flags, values, std::span(expected).first(n));
      test::Skewed<std::uint8_t> const device_flags(flags, round % 17);
      auto const device_values = test::upload(values);
      auto const out = test::filled<TestType>(n + 1, value_of<TestType>(9));
      Workspace const workspace(compact_workspace_bytes(n));
      CAPTURE(n, percent);
      REQUIRE(compact<TestType>(device_flags.span(), device_values, out.span().first(kept),
                                workspace, stream) == kept);
      REQUIRE(test::difference(test::download(out, stream), expected) == -1);
      if (n <= 16384) {
        auto const count = test::filled<std::uint32_t>(1, 77);
        compact_async<TestType>(device_flags.span(), device_values, device_values.span(), count,
                                workspace, stream);
        auto in_place = test::download(device_values, stream);
        REQUIRE(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(kept),
                           in_place.begin()));
        REQUIRE(test::download(count, stream).front() == kept);
      }
    }
  }
}

TEST_CASE("Segments are compacted to their own fronts, in one launch or two", "[compact]") {
  test::Stream const stream;
  auto const offsets = test::offsets_of(test::many_lengths(), 5);
  std::size_t const size = offsets.back() + 11;
  std::size_t const segments = offsets.size() - 1;
  auto const device_offsets = test::upload(offsets);
  Workspace const workspace(compact_workspace_bytes(size));
  auto const values = positions(size);
  auto const device_values = test::upload(values);
  for (unsigned const percent : {0U, 3U, 50U, 100U}) {
    auto const flags = flags_of(size, percent, percent + 1);
    test::Skewed<std::uint8_t> const device_flags(flags, percent % 16);
    std::vector<std::uint32_t> expected(size, 9);
    std::vector<std::uint32_t> expected_places(size, 9);
    std::vector<std::uint32_t> expected_counts;
    for (std::size_t s = 0; s < segments; ++s) {
      std::size_t const n = offsets[s + 1] - offsets[s];
      auto const room = std::span(expected).subspan(offsets[s], n);
      auto const kept = host::compact<std::uint32_t>(
          std::span(flags).subspan(offsets[s], n), std::span(values).subspan(offsets[s], n), room);
      expected_counts.push_back(static_cast<std::uint32_t>(kept));
      for (std::size_t i = 0; i < kept; ++i) {
        expected_places[offsets[s] + i] = room[i] - offsets[s];
      }
    }
    CAPTURE(percent);
    auto const out = test::filled<std::uint32_t>(size, 9);
    auto const counts = test::filled<std::uint32_t>(segments, 77);
    compact_async<std::uint32_t>(device_flags.span(), device_values, device_offsets, out, counts,
                                 workspace, stream);
    CHECK(test::difference(test::download(out, stream), expected) == -1);
    CHECK(test::download(counts, stream) == expected_counts);

    auto const places = test::filled<std::uint32_t>(size, 9);
    auto const place_counts = test::filled<std::uint32_t>(segments, 77);
    auto const total = compact_positions(device_flags.span(), device_offsets, places, place_counts,
                                         workspace, stream);
    CHECK(test::difference(test::download(places, stream), expected_places) == -1);
    CHECK(test::download(place_counts, stream) == expected_counts);
    CHECK(total == static_cast<std::size_t>(std::accumulate(
                       expected_counts.begin(), expected_counts.end(), std::uint64_t{0})));
  }
}

TEST_CASE("A long segment has one chunk more where its first one is short", "[compact]") {
  test::Stream const stream;
  std::vector<std::uint32_t> const offsets{0, 24575, 24600};
  test::Skewed<std::uint8_t> const flags(std::vector<std::uint8_t>(24600, 1), 15);
  auto const out = test::filled<std::uint32_t>(24600, 9);
  auto const counts = test::filled<std::uint32_t>(2, 77);
  Workspace const workspace(compact_workspace_bytes(24600));
  compact_positions(flags.span(), test::upload(offsets), out, counts, workspace, stream);
  CHECK(test::download(counts, stream) == std::vector<std::uint32_t>{24575, 25});
  CHECK(test::download(out, stream)[24574] == 24574);
}

TEST_CASE("Segments of announced length are compacted in place", "[compact]") {
  test::Stream const stream;
  std::vector<std::uint32_t> const offsets{0, 16384, 16384, 16390, 30000, 70000};
  auto const values = positions(70000);
  auto const flags = flags_of(70000, 40, 1);
  auto const device_offsets = test::upload(offsets);
  auto const device_flags = test::upload(flags);
  auto const device_values = test::upload(values);
  auto const counts = test::filled<std::uint32_t>(5, 77);
  Workspace const workspace(compact_workspace_bytes(70000));
  compact_async<std::uint32_t>(device_flags, device_values, {device_offsets, 16384}, device_values,
                               counts, workspace, stream);
  auto expected = values;
  std::vector<std::uint32_t> expected_counts;
  for (std::size_t s = 0; s < 4; ++s) {
    std::size_t const n = offsets[s + 1] - offsets[s];
    auto const segment = std::span(expected).subspan(offsets[s], n);
    expected_counts.push_back(static_cast<std::uint32_t>(
        host::compact<std::uint32_t>(std::span(flags).subspan(offsets[s], n), segment, segment)));
  }
  expected_counts.push_back(0);  // longer than announced: left alone
  CHECK(test::difference(test::download(device_values, stream), expected) == -1);
  CHECK(test::download(counts, stream) == expected_counts);
}

TEST_CASE("Positions of flags", "[compact]") {
  test::Stream const stream;
  for (std::size_t const n : {1U, 5000U, 40000U}) {
    auto const flags = flags_of(n, 30, static_cast<unsigned>(n));
    std::vector<std::uint32_t> expected(n);
    expected.resize(host::compact<std::uint32_t>(flags, positions(n), expected));
    auto const device_flags = test::upload(flags);
    auto const out = test::filled<std::uint32_t>(expected.size(), 9);
    Workspace const workspace(compact_workspace_bytes(n));
    CHECK(compact_positions(device_flags, out, workspace, stream) == expected.size());
    CHECK(test::difference(test::download(out, stream), expected) == -1);
  }
}

TEST_CASE("compact refuses what does not fit", "[compact]") {
  test::Stream const stream;
  auto const flags = test::upload(std::vector<std::uint8_t>{1, 0, 1});
  auto const values = test::upload(std::vector<float>{1.0F, 2.0F, 3.0F});
  auto const out = test::upload(std::vector<float>{-1.0F, -1.0F, -1.0F});
  auto const count = test::filled<std::uint32_t>(1, 77);
  Workspace const workspace(compact_workspace_bytes(40000));
  CHECK_THROWS_WITH(compact<float>(flags, values, out.span().first(1), workspace, stream),
                    "compact: out has 1 elements, but 2 are flagged");
  CHECK_THROWS_AS(compact<float>(flags, values.span().first(2), out, workspace, stream),
                  InvalidArgument);
  CHECK_THROWS_AS(compact<float>(flags, values, values.span().subspan(1), workspace, stream),
                  InvalidArgument);
  CHECK_THROWS_AS(compact<float>(flags, values, out, workspace.span().first(8), stream),
                  InvalidArgument);
  CHECK_THROWS_AS(compact_async<float>(flags, values, out, {}, workspace, stream), InvalidArgument);
  auto const beyond = test::upload(std::vector<std::uint32_t>{0, 4});
  CHECK_THROWS_WITH(compact<float>(flags, values, beyond, out, count, workspace, stream),
                    "compact: the last offset is 4 but there are 3 elements");
  CHECK(test::difference(test::download(out, stream), std::vector<float>(3, -1.0F)) == -1);

  // What is wrong on the device is not followed; what has no room is counted.
  compact_async<float>(flags, values, beyond, out, count, workspace, stream);
  CHECK(test::download(count, stream).front() == 0);
  compact_async<float>(flags, values, out.span().first(1), count, workspace, stream);
  CHECK(test::download(count, stream).front() == 2);
  CHECK(test::difference(test::download(out, stream), std::vector<float>{1.0F, -1.0F, -1.0F}) ==
        -1);

  auto const many = test::filled<std::uint8_t>(40000, 1);
  auto const numbers = test::filled<float>(40000, 1.0F);
  CHECK_THROWS_WITH(compact_async<float>(many, numbers, numbers, count, workspace, stream),
                    "compact: out overlaps values, with segments of more than 16384 elements");
}

TEST_CASE("compact in a graph, replayed with other flags and offsets", "[compact]") {
  test::Stream const stream;
  std::size_t const size = 60000;
  auto const values = positions(size);
  auto const device_values = test::upload(values);
  auto const flags = test::filled<std::uint8_t>(size, 0);
  auto const offsets = test::filled<std::uint32_t>(3, 0);
  auto const out = test::filled<std::uint32_t>(size, 9);
  auto const counts = test::filled<std::uint32_t>(2, 0);
  Workspace const workspace(compact_workspace_bytes(size));

  test::Graph const graph(stream, [&] {
    compact_async<std::uint32_t>(flags, device_values, offsets, out, counts, workspace, stream);
  });
  for (unsigned replay = 0; replay < 3; ++replay) {
    auto const now = flags_of(size, 20 + 30 * replay, replay);
    std::vector<std::uint32_t> const where{replay, 1000 + 25000 * replay, 60000};
    check(cudaMemcpyAsync(flags.data(), now.data(), size, cudaMemcpyHostToDevice, stream.get()),
          "copy");
    check(cudaMemcpyAsync(offsets.data(), where.data(), offsets.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "copy");
    graph.launch(stream);
    auto const got = test::download(out, stream);
    auto const got_counts = test::download(counts, stream);
    for (std::size_t s = 0; s < 2; ++s) {
      std::size_t const n = where[s + 1] - where[s];
      std::vector<std::uint32_t> expected(n);
      auto const kept = host::compact<std::uint32_t>(
          std::span(now).subspan(where[s], n), std::span(values).subspan(where[s], n), expected);
      CHECK(got_counts[s] == kept);
      CHECK(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(kept),
                       got.begin() + where[s]));
    }
  }
}

TEST_CASE("What compact asks of the device", "[compact]") {
  test::Stream const stream;
  std::uint32_t const lanes = 5;
  std::uint32_t const length = 8192;
  std::size_t const elements = std::size_t{lanes} * length;
  auto const flags = test::upload(flags_of(elements, 50, 1));
  auto const all = test::filled<std::uint8_t>(elements, 1);
  auto const values = test::upload(positions(elements));
  auto const out = test::filled<std::uint32_t>(elements, 9);
  auto const counts = test::filled<std::uint32_t>(lanes, 0);
  Workspace const workspace(compact_workspace_bytes(elements));
  auto const even = test::upload(test::offsets_of(std::vector<std::uint32_t>(lanes, length), 0));

  auto const short_ones = test::count(stream, [&] {
    compact_async<std::uint32_t>(all, values, {even, length}, out, counts, workspace, stream);
  });
  if (!short_ones) {
    WARN("no counters here");
    return;
  }
  CHECK(short_ones->kernel_launches == 1);
  CHECK(short_ones->memsets == 0);
  CHECK(short_ones->host_syncs == 0);
  CHECK(short_ones->mallocs == 0);
  CHECK(test::useful(*short_ones, 9 * elements) > 0.95);

  auto const long_one = test::count(stream, [&] {
    compact_async<std::uint32_t>(all, values, out, counts.span().first(1), workspace, stream);
  });
  CHECK(long_one->kernel_launches == 2);
  CHECK(long_one->memsets == 0);
  CHECK(long_one->host_syncs == 0);
  CHECK(long_one->mallocs == 0);
  CHECK(test::useful(*long_one, 10 * elements) > 0.95);  // flags are read twice

  // Half of the values: nearly every sector of the input holds one that stays.
  auto const partly = test::count(stream, [&] {
    compact_async<std::uint32_t>(flags, values, out, counts.span().first(1), workspace, stream);
  });
  CHECK(test::useful(*partly, 8 * elements) > 0.9);
  WARN("short: " << short_ones->thread_instructions / elements
                 << " instructions an element, useful bytes of sectors "
                 << test::useful(*short_ones, 9 * elements)
                 << "; long: " << long_one->thread_instructions / elements << ", "
                 << test::useful(*long_one, 10 * elements));
}
