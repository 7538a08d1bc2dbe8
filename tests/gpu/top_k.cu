#include <kvfreeze/gpu/top_k.cuh>
#include <kvfreeze/host/top_k.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/segment_data.cuh>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

enum class Kind { noise, few_values, equal, extremes };

std::vector<float> scores_of(Kind kind, std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> const extremes{infinity, -infinity, 0.0F,     -0.0F, 1e-45F,
                                    -1e-45F,  3.4e38F,   -3.4e38F, 1.0F,  -1.0F};
  std::vector<float> scores(n);
  for (float& x : scores) {
    switch (kind) {
      case Kind::noise:
        x = normal(random);
        break;
      case Kind::few_values:
        x = static_cast<float>(random() % 3) - 1.0F;
        break;
      case Kind::equal:
        x = -2.5F;
        break;
      case Kind::extremes:
        x = extremes[random() % extremes.size()];
        break;
    }
  }
  return scores;
}

test::Marked on_host(std::vector<float> const& scores, std::vector<std::uint32_t> const& offsets,
                     std::vector<std::uint32_t> const& k) {
  return test::marked_on_host(scores, offsets,
                              [&](auto values, auto const& whole, std::size_t s, auto selected) {
                                return host::top_k(values, whole, k[s], selected);
                              });
}

}  // namespace

TEST_CASE("top_k marks what the host marks", "[top_k]") {
  test::Stream const stream;
  auto const offsets = test::offsets_of(test::many_lengths(), 5);
  std::size_t const size = offsets.back() + 11;
  auto const device_offsets = test::upload(offsets);
  Workspace const workspace(top_k_workspace_bytes(size));
  std::size_t const segments = offsets.size() - 1;
  unsigned round = 0;
  for (Kind const kind : {Kind::noise, Kind::few_values, Kind::equal, Kind::extremes}) {
    for (std::uint32_t const k : {0U, 1U, 20U, 4000U, 32769U, 0xFFFFFFFFU}) {
      ++round;
      auto const scores = scores_of(kind, size, round);
      std::size_t const skew = round % 4;
      test::Skewed<float> const input(scores, skew);
      test::Skewed<std::uint8_t> const selected(std::vector<std::uint8_t>(size, 9), round % 3);
      auto const counts = test::filled<std::uint32_t>(segments, 77);
      auto const report = test::filled<MarksReport>(1, {7, 7, 7});
      Marks const marks{selected.span(), counts, report};
      CAPTURE(static_cast<int>(kind), k, skew);
      std::vector<std::uint32_t> each(segments, k);
      if (round % 2 == 0) {
        top_k_async(input.span(), device_offsets, k, marks, workspace, stream);
      } else {  // a k of its own for each segment
        for (std::size_t s = 0; s < segments; ++s) {
          each[s] = s % 3 == 0 ? k : k / (2 + static_cast<std::uint32_t>(s));
        }
        auto const device_each = test::upload(each);
        top_k_async(input.span(), device_offsets, Span<std::uint32_t const>(device_each), marks,
                    workspace, stream);
        stream.wait();
      }
      auto const expected = on_host(scores, offsets, each);
      REQUIRE(test::difference(selected.download(stream), expected.selected) == -1);
      REQUIRE(test::download(counts, stream) == expected.counts);
      auto const told = test::download(report, stream).front();
      REQUIRE(told.selected == expected.total);
      REQUIRE(told.nans == 0);
      REQUIRE(told.bad_segments == 0);
    }
  }
}

TEST_CASE("A long segment of scores has one chunk more where its first one is short", "[top_k]") {
  test::Stream const stream;
  std::vector<std::uint32_t> const offsets{0, 40959, 41000, 81959};
  auto const scores = scores_of(Kind::few_values, offsets.back(), 3);
  test::Skewed<float> const input(scores, 3);
  auto const device_offsets = test::upload(offsets);
  auto const selected = test::filled<std::uint8_t>(scores.size(), 9);
  Workspace const workspace(top_k_workspace_bytes(scores.size()));
  top_k_async(input.span(), device_offsets, 40000, {selected}, workspace, stream);
  auto const expected = on_host(scores, offsets, {40000, 40000, 40000}).selected;
  CHECK(test::difference(test::download(selected, stream), expected) == -1);
}

TEST_CASE("A NaN ranks below everything and is counted", "[top_k]") {
  test::Stream const stream;
  for (std::uint32_t const length : {10U, 5000U, 50000U}) {
    std::vector<float> scores(2 * length);
    std::mt19937 random(length);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      scores[i] =
          random() % 4 == 0 ? (random() % 2 == 0 ? not_a_number : -not_a_number) : -infinity;
    }
    auto const nans = static_cast<std::uint32_t>(
        std::count_if(scores.begin(), scores.end(), [](float x) { return std::isnan(x); }));
    std::uint32_t const numbers = static_cast<std::uint32_t>(
        std::count_if(scores.begin(), scores.begin() + length, [](float x) { return x == x; }));
    std::vector<std::uint32_t> const offsets{0, length, 2 * length};
    auto const input = test::upload(scores);
    auto const device_offsets = test::upload(offsets);
    Workspace const workspace(top_k_workspace_bytes(scores.size()));
    // Of the first segment all numbers and one NaN, of the second all.
    auto const k = test::upload(std::vector<std::uint32_t>{numbers + 1, length});
    auto const selected = test::filled<std::uint8_t>(scores.size(), 9);
    auto const counts = test::filled<std::uint32_t>(2, 0);
    auto const report = test::filled<MarksReport>(1, {});
    top_k_async(input, device_offsets, Span<std::uint32_t const>(k), {selected, counts, report},
                workspace, stream);
    auto const got = test::download(selected, stream);
    bool first_nan = true;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      bool const is_nan = scores[i] != scores[i];
      bool const expected = i >= length || !is_nan || first_nan;
      first_nan = first_nan && !is_nan;
      wrong += got[i] == (expected ? 1 : 0) ? 0U : 1U;
    }
    CHECK(wrong == 0);
    CHECK(test::download(counts, stream) == std::vector<std::uint32_t>{numbers + 1, length});
    CHECK(test::download(report, stream).front().nans == nans);

    std::string const first = std::to_string(
        std::find_if(scores.begin(), scores.end(), [](float x) { return std::isnan(x); }) -
        scores.begin());
    CHECK_THROWS_WITH(top_k(input, device_offsets, 3, selected, workspace, stream),
                      "top_k: scores[" + first + "] is NaN");
  }
}

TEST_CASE("top_k waits and throws like the host's", "[top_k]") {
  test::Stream const stream;
  auto const scores = scores_of(Kind::noise, 1000, 1);
  auto const input = test::upload(scores);
  auto const selected = test::filled<std::uint8_t>(1000, 9);
  Workspace const workspace(top_k_workspace_bytes(1000));
  auto const whole = test::upload(std::vector<std::uint32_t>{0, 400, 1000});
  CHECK(top_k(input, whole, 30, selected, workspace, stream) == 60);
  CHECK(test::difference(test::download(selected, stream),
                         on_host(scores, {0, 400, 1000}, {30, 30}).selected) == -1);
  auto const each = test::upload(std::vector<std::uint32_t>{1, 1000});
  CHECK(top_k(input, whole, each.span(), selected, workspace, stream) == 601);
  CHECK(top_k({}, Segments(), 3, {}, workspace, stream) == 0);

  auto const untouched = test::filled<std::uint8_t>(1000, 9);
  auto const descending = test::upload(std::vector<std::uint32_t>{0, 5, 4});
  auto const beyond = test::upload(std::vector<std::uint32_t>{0, 1001});
  CHECK_THROWS_WITH(top_k(input, descending, 1, untouched, workspace, stream),
                    "top_k: offsets[2] = 4 is below its predecessor 5");
  CHECK_THROWS_WITH(top_k(input, beyond, 1, untouched, workspace, stream),
                    "top_k: the last offset is 1001 but there are 1000 elements");
  CHECK_THROWS_WITH(top_k(input, {whole, 599}, 1, untouched, workspace, stream),
                    "top_k: segment 1 has 600 elements, expected at most 599");
  CHECK_THROWS_WITH(top_k(input, whole, 1, untouched.span().first(9), workspace, stream),
                    "top_k: selected has 9 elements, expected 1000");
  CHECK_THROWS_AS(top_k(input, whole, each.span().first(1), untouched, workspace, stream),
                  InvalidArgument);
  CHECK_THROWS_AS(top_k(input, whole, 1, untouched, workspace.span().first(8), stream),
                  InvalidArgument);
  CHECK_THROWS_AS(
      top_k_async(input, whole, 1, {untouched, each.span().first(1)}, workspace, stream),
      InvalidArgument);
  auto with_nan = scores;
  with_nan[7] = not_a_number;
  CHECK_THROWS_WITH(top_k(test::upload(with_nan), whole, 1, untouched, workspace, stream),
                    "top_k: scores[7] is NaN");
  CHECK(test::difference(test::download(untouched, stream), std::vector<std::uint8_t>(1000, 9)) ==
        -1);
}

TEST_CASE("Offsets that do not fit are counted and never followed", "[top_k]") {
  test::Stream const stream;
  auto const scores = scores_of(Kind::noise, 70000, 2);
  auto const input = test::upload(scores);
  std::vector<std::uint32_t> const offsets{0, 100, 40, 90, 200000, 1, 60000, 0xFFFFFFFFU};
  auto const device_offsets = test::upload(offsets);
  auto const selected = test::filled<std::uint8_t>(scores.size(), 9);
  auto const counts = test::filled<std::uint32_t>(offsets.size() - 1, 9);
  auto const report = test::filled<MarksReport>(1, {});
  Workspace const workspace(top_k_workspace_bytes(scores.size()));
  Marks const marks{selected, counts, report};
  top_k_async(input, device_offsets, 5, marks, workspace, stream);
  CHECK(test::download(report, stream).front().bad_segments == 4);
  auto const got = test::download(counts, stream);
  CHECK(got[0] == 5);
  CHECK(got[1] == 0);
  CHECK(got[3] == 0);
  CHECK(got[6] == 0);

  top_k_async(input, {device_offsets, 60}, 5, marks, workspace, stream);
  CHECK(test::download(report, stream).front().bad_segments == 6);
  CHECK(test::download(counts, stream) == std::vector<std::uint32_t>{0, 0, 5, 0, 0, 0, 0});
}

TEST_CASE("top_k in a graph, replayed with other scores, offsets and k", "[top_k]") {
  test::Stream const stream;
  std::size_t const size = 90000;
  auto const input = test::filled<float>(size, 0.0F);
  auto const offsets = test::filled<std::uint32_t>(4, 0);
  auto const k = test::filled<std::uint32_t>(3, 0);
  auto const selected = test::filled<std::uint8_t>(size, 9);
  auto const counts = test::filled<std::uint32_t>(3, 0);
  auto const report = test::filled<MarksReport>(1, {});
  Workspace const workspace(top_k_workspace_bytes(size));

  test::Graph const graph(stream, [&] {
    top_k_async(input, offsets, k.span(), {selected, counts, report}, workspace, stream);
  });
  for (unsigned replay = 0; replay < 3; ++replay) {
    auto const scores = scores_of(replay == 1 ? Kind::few_values : Kind::noise, size, replay);
    std::vector<std::uint32_t> const where =
        replay == 0 ? std::vector<std::uint32_t>{0, 10, 80000, 90000}
                    : std::vector<std::uint32_t>{3, 45003, 90000, 90000};
    std::vector<std::uint32_t> const each{replay + 2, 1234 * (replay + 1), 40000};
    check(cudaMemcpyAsync(input.data(), scores.data(), input.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy");
    check(cudaMemcpyAsync(offsets.data(), where.data(), offsets.size_bytes(),
                          cudaMemcpyHostToDevice, stream.get()),
          "copy");
    check(cudaMemcpyAsync(k.data(), each.data(), k.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy");
    check(cudaMemsetAsync(selected.data(), 9, size, stream.get()), "fill");
    graph.launch(stream);
    auto const expected = on_host(scores, where, each);
    CHECK(test::difference(test::download(selected, stream), expected.selected) == -1);
    CHECK(test::download(counts, stream) == expected.counts);
    CHECK(test::download(report, stream).front().selected == expected.total);
  }
}

TEST_CASE("What top_k asks of the device", "[top_k]") {
  test::Stream const stream;
  std::uint32_t const lanes = 16;
  std::uint32_t const length = 4096;
  auto const scores = scores_of(Kind::noise, std::size_t{lanes} * length, 4);
  std::size_t const elements = scores.size();
  auto const input = test::upload(scores);
  auto const selected = test::filled<std::uint8_t>(elements, 9);
  auto const counts = test::filled<std::uint32_t>(lanes, 0);
  Workspace const workspace(top_k_workspace_bytes(scores.size()));
  auto const even = test::upload(test::offsets_of(std::vector<std::uint32_t>(lanes, length), 0));
  auto const one = test::upload(std::vector<std::uint32_t>{0, lanes * length});

  auto const short_ones = test::count(stream, [&] {
    top_k_async(input, {even, length}, 128, {selected, counts}, workspace, stream);
  });
  if (!short_ones) {
    WARN("no counters here");
    return;
  }
  CHECK(short_ones->kernel_launches == 1);
  CHECK(short_ones->memsets == 0);
  CHECK(short_ones->host_syncs == 0);
  CHECK(short_ones->mallocs == 0);
  // Scores are read once, though there are four passes: up to a tile stays in registers.
  CHECK(test::useful(*short_ones, 5 * elements) > 0.9);

  auto const long_one = test::count(stream, [&] {
    top_k_async(input, one, 128, {selected, counts.span().first(1)}, workspace, stream);
  });
  CHECK(long_one->kernel_launches == 5);
  CHECK(long_one->memsets == 1);
  CHECK(long_one->host_syncs == 0);
  CHECK(long_one->mallocs == 0);
  // Read four times: 17 bytes an element, beside histograms.
  CHECK(test::useful(*long_one, 17 * elements) > 0.75);
  WARN("short: " << short_ones->thread_instructions / elements
                 << " instructions an element, useful bytes of sectors "
                 << test::useful(*short_ones, 5 * elements)
                 << "; long: " << long_one->thread_instructions / elements << ", "
                 << test::useful(*long_one, 17 * elements));
}
