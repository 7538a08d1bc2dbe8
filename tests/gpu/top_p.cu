#include <kvfreeze/gpu/top_p.cuh>
#include <kvfreeze/host/top_p.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/segment_data.cuh>
#include <limits>
#include <random>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

enum class Kind { softmax, magnitudes, few_values, equal, zeros, largest };

std::vector<std::uint32_t> masses_of(Kind kind, std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<std::uint32_t> masses(n);
  for (auto& mass : masses) {
    auto const bits = static_cast<std::uint32_t>(random());
    switch (kind) {
      case Kind::softmax:
        mass = static_cast<std::uint32_t>(std::exp(normal(random)) * 1000.0F);
        break;
      case Kind::magnitudes:
        mass = bits >> (random() % 32);
        break;
      case Kind::few_values:
        mass = bits % 3;
        break;
      case Kind::equal:
        mass = 5;
        break;
      case Kind::zeros:
        mass = 0;
        break;
      case Kind::largest:
        mass = 0xFFFFFFFFU - bits % 2;
        break;
    }
  }
  return masses;
}

test::Marked on_host(std::vector<std::uint32_t> const& masses,
                     std::vector<std::uint32_t> const& offsets, std::vector<float> const& p) {
  return test::marked_on_host(masses, offsets,
                              [&](auto values, auto const& whole, std::size_t s, auto selected) {
                                return host::top_p(values, whole, p[s], selected);
                              });
}

}  // namespace

TEST_CASE("top_p marks what the host marks", "[top_p]") {
  test::Stream const stream;
  auto const offsets = test::offsets_of(test::many_lengths(), 5);
  std::size_t const size = offsets.back() + 11;
  auto const device_offsets = test::upload(offsets);
  Workspace const workspace(top_p_workspace_bytes(size));
  std::size_t const segments = offsets.size() - 1;
  unsigned round = 0;
  for (Kind const kind : {Kind::softmax, Kind::magnitudes, Kind::few_values, Kind::equal,
                          Kind::zeros, Kind::largest}) {
    for (float const p : {0.0F, 1e-9F, 0.1F, 0.95F, 1.0F}) {
      ++round;
      auto const masses = masses_of(kind, size, round);
      test::Skewed<std::uint32_t> const input(masses, round % 4);
      test::Skewed<std::uint8_t> const selected(std::vector<std::uint8_t>(size, 9), round % 3);
      auto const counts = test::filled<std::uint32_t>(segments, 77);
      auto const report = test::filled<MarksReport>(1, {7, 7, 7});
      Marks const marks{selected.span(), counts, report};
      CAPTURE(static_cast<int>(kind), p);
      std::vector<float> each(segments, p);
      if (round % 2 == 0) {
        top_p_async(input.span(), device_offsets, p, marks, workspace, stream);
      } else {  // a p of its own for each segment
        for (std::size_t s = 0; s < segments; ++s) {
          each[s] = s % 3 == 0 ? p : p * 0.9F;
        }
        auto const device_each = test::upload(each);
        top_p_async(input.span(), device_offsets, Span<float const>(device_each), marks, workspace,
                    stream);
        stream.wait();
      }
      auto const expected = on_host(masses, offsets, each);
      REQUIRE(test::difference(selected.download(stream), expected.selected) == -1);
      REQUIRE(test::download(counts, stream) == expected.counts);
      auto const told = test::download(report, stream).front();
      REQUIRE(told.selected == expected.total);
      REQUIRE(told.nans == 0);
      REQUIRE(told.bad_segments == 0);
    }
  }
}

TEST_CASE("top_p waits and throws like the host's", "[top_p]") {
  test::Stream const stream;
  auto const masses = masses_of(Kind::softmax, 1000, 1);
  auto const input = test::upload(masses);
  auto const selected = test::filled<std::uint8_t>(1000, 9);
  auto const offsets = test::upload(std::vector<std::uint32_t>{0, 400, 1000});
  Workspace const workspace(top_p_workspace_bytes(1000));
  auto const expected = on_host(masses, {0, 400, 1000}, {0.5F, 0.5F});
  CHECK(top_p(input, offsets, 0.5F, selected, workspace, stream) == expected.total);
  CHECK(test::difference(test::download(selected, stream), expected.selected) == -1);
  // p on the device cannot be refused: it is taken into [0, 1].
  auto const each = test::upload(std::vector<float>{std::numeric_limits<float>::quiet_NaN(), 7.0F});
  CHECK(top_p(input, offsets, each.span(), selected, workspace, stream) ==
        on_host(masses, {0, 400, 1000}, {0.0F, 1.0F}).total);
  CHECK(top_p({}, Segments(), 1.0F, {}, workspace, stream) == 0);

  auto const untouched = test::filled<std::uint8_t>(1000, 9);
  for (float const p : {-0.1F, 1.1F, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK_THROWS_AS(top_p(input, offsets, p, untouched, workspace, stream), InvalidArgument);
    CHECK_THROWS_AS(top_p_async(input, offsets, p, {untouched}, workspace, stream),
                    InvalidArgument);
  }
  auto const beyond = test::upload(std::vector<std::uint32_t>{0, 1001});
  CHECK_THROWS_WITH(top_p(input, beyond, 0.5F, untouched, workspace, stream),
                    "top_p: the last offset is 1001 but there are 1000 elements");
  CHECK_THROWS_WITH(top_p(input, offsets, 0.5F, untouched.span().first(2), workspace, stream),
                    "top_p: selected has 2 elements, expected 1000");
  CHECK_THROWS_AS(top_p(input, offsets, each.span().first(1), untouched, workspace, stream),
                  InvalidArgument);
  CHECK(test::difference(test::download(untouched, stream), std::vector<std::uint8_t>(1000, 9)) ==
        -1);
}

TEST_CASE("top_p in a graph, replayed with other masses and p", "[top_p]") {
  test::Stream const stream;
  std::size_t const size = 80000;
  auto const input = test::filled<std::uint32_t>(size, 0);
  std::vector<std::uint32_t> const where{0, 60000, 79000, 80000};
  auto const offsets = test::upload(where);
  auto const p = test::filled<float>(3, 0.0F);
  auto const selected = test::filled<std::uint8_t>(size, 9);
  auto const counts = test::filled<std::uint32_t>(3, 0);
  Workspace const workspace(top_p_workspace_bytes(size));

  test::Graph const graph(stream, [&] {
    top_p_async(input, offsets, p.span(), {selected, counts}, workspace, stream);
  });
  for (unsigned replay = 0; replay < 3; ++replay) {
    auto const masses = masses_of(replay == 1 ? Kind::few_values : Kind::softmax, size, replay);
    std::vector<float> const each{0.3F * static_cast<float>(replay + 1), 0.5F, 0.99F};
    check(cudaMemcpyAsync(input.data(), masses.data(), input.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy");
    check(cudaMemcpyAsync(p.data(), each.data(), p.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy");
    graph.launch(stream);
    auto const expected = on_host(masses, where, each);
    CHECK(test::difference(test::download(selected, stream), expected.selected) == -1);
    CHECK(test::download(counts, stream) == expected.counts);
  }
}

TEST_CASE("What top_p asks of the device", "[top_p]") {
  test::Stream const stream;
  std::uint32_t const lanes = 16;
  std::uint32_t const length = 4096;
  auto const masses = masses_of(Kind::softmax, std::size_t{lanes} * length, 4);
  std::size_t const elements = masses.size();
  auto const input = test::upload(masses);
  auto const selected = test::filled<std::uint8_t>(elements, 9);
  auto const counts = test::filled<std::uint32_t>(lanes, 0);
  Workspace const workspace(top_p_workspace_bytes(elements));
  auto const even = test::upload(test::offsets_of(std::vector<std::uint32_t>(lanes, length), 0));
  auto const one = test::upload(std::vector<std::uint32_t>{0, lanes * length});

  auto const short_ones = test::count(stream, [&] {
    top_p_async(input, {even, length}, 0.95F, {selected, counts}, workspace, stream);
  });
  if (!short_ones) {
    WARN("no counters here");
    return;
  }
  CHECK(short_ones->kernel_launches == 1);
  CHECK(short_ones->memsets == 0);
  CHECK(short_ones->host_syncs == 0);
  CHECK(short_ones->mallocs == 0);
  CHECK(test::useful(*short_ones, 5 * elements) > 0.9);
  // Most masses are of few cells; without adding up in a warp there would be an atomic for each.
  CHECK(static_cast<double>(short_ones->atomics) < 1.5 * static_cast<double>(elements));

  auto const long_one = test::count(stream, [&] {
    top_p_async(input, one, 0.95F, {selected, counts.span().first(1)}, workspace, stream);
  });
  CHECK(long_one->kernel_launches == 5);
  CHECK(long_one->memsets == 1);
  CHECK(long_one->host_syncs == 0);
  CHECK(long_one->mallocs == 0);
  // Here a chunk is 32 KB and the histogram that its blocks read 16 KB.
  CHECK(test::useful(*long_one, 17 * elements) > 0.5);
  WARN("short: " << short_ones->thread_instructions / elements
                 << " instructions an element, useful bytes of sectors "
                 << test::useful(*short_ones, 5 * elements) << ", atomics "
                 << static_cast<double>(short_ones->atomics) / static_cast<double>(elements)
                 << "; long: " << long_one->thread_instructions / elements << ", "
                 << test::useful(*long_one, 17 * elements));
}
