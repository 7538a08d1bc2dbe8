#include <kvfreeze/gpu/merge.cuh>
#include <kvfreeze/host/merge.hpp>

#include <catch2/catch.hpp>

#include <cmath>
#include <gpu/device.cuh>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Two attentions of [heads][dim], some heads without rows, some far apart.
struct Sides {
  std::vector<float> out_a, out_b, lse_a, lse_b;

  Sides(std::size_t heads, std::size_t dim, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0F, 1.0F);
    for (std::size_t i = 0; i < heads * dim; ++i) {
      out_a.push_back(normal(random));
      out_b.push_back(normal(random));
    }
    for (std::size_t h = 0; h < heads; ++h) {
      lse_a.push_back(h % 5 == 1 ? -infinity : normal(random) * (h % 3 == 0 ? 1.0F : 60.0F));
      lse_b.push_back(h % 10 == 1 || h % 7 == 3 ? -infinity : normal(random));
    }
  }

  /// What the host says.
  void merge(std::vector<float>& out, std::vector<float>& lse) const {
    out.resize(out_a.size());
    lse.resize(lse_a.size());
    host::merge(out_a, lse_a, out_b, lse_b, out, lse);
  }
};

void check_close(Sides const& sides, std::vector<float> const& out, std::vector<float> const& lse) {
  std::vector<float> expected, expected_lse;
  sides.merge(expected, expected_lse);
  for (std::size_t i = 0; i < out.size(); ++i) {
    REQUIRE(std::fabs(out[i] - expected[i]) <=
            1e-6F * (std::fabs(sides.out_a[i]) + std::fabs(sides.out_b[i])));
  }
  for (std::size_t h = 0; h < lse.size(); ++h) {
    REQUIRE((lse[h] == expected_lse[h] ||
             std::fabs(lse[h] - expected_lse[h]) <= 1e-6F * std::max(1.0F, std::fabs(lse[h]))));
  }
}

void check_merge(std::size_t heads, std::size_t dim) {
  CAPTURE(heads, dim);
  test::Stream const stream;
  Sides const sides(heads, dim, static_cast<unsigned>(heads + dim));
  auto const out_a = test::upload(sides.out_a);
  auto const out_b = test::upload(sides.out_b);
  auto const lse_a = test::upload(sides.lse_a);
  auto const lse_b = test::upload(sides.lse_b);
  DeviceArray<float> const out(heads * dim);
  DeviceArray<float> const lse(heads);
  merge(out_a, lse_a, out_b, lse_b, out, lse, stream);
  auto const apart = test::download(out, stream);
  auto const apart_lse = test::download(lse, stream);
  check_close(sides, apart, apart_lse);
  merge_async(out_b, lse_b, out_a, lse_a, out_b, lse_b, stream);  // the other way round, in place
  CHECK(test::download(lse_b, stream) == apart_lse);
  check_close(sides, test::download(out_b, stream), apart_lse);
}

}  // namespace

TEST_CASE("Merged attentions are the host's", "[merge]") {
  check_merge(1, 8);
  check_merge(32, 128);
  check_merge(71, 64);
  check_merge(333, 40);
  check_merge(9, 512);
  check_merge(0, 0);
}

TEST_CASE("Large log-sum-exps do not overflow, a side without rows changes nothing", "[merge]") {
  test::Stream const stream;
  auto const a = test::upload<float>({1.0F, 3.0F, 1.5F, -2.25F, 8.0F, 9.0F});
  auto const b = test::upload<float>({3.0F, 1.0F, 7.0F, 7.0F, 6.0F, 5.0F});
  auto const lse_a = test::upload<float>({3e38F, 0.3F, -infinity});
  auto const lse_b = test::upload<float>({3e38F, -infinity, -infinity});
  DeviceArray<float> const out(6);
  DeviceArray<float> const lse(3);
  merge(a, lse_a, b, lse_b, out, lse, stream);
  CHECK(test::download(out, stream) == std::vector<float>{2.0F, 2.0F, 1.5F, -2.25F, 0.0F, 0.0F});
  CHECK(test::download(lse, stream) == std::vector<float>{3e38F, 0.3F, -infinity});
}

TEST_CASE("A side may have halves", "[merge]") {
  test::Stream const stream;
  auto const check_type = [&](auto element) {
    using T = decltype(element);
    Sides sides(40, 72, 4);
    std::vector<T> narrow;
    for (float& x : sides.out_a) {
      narrow.push_back(from_float<T>(x));
      x = to_float(narrow.back());
    }
    auto const out = test::upload(narrow);
    auto const lse = test::upload(sides.lse_a);
    merge_async<T>(out, lse, test::upload(sides.out_b), test::upload(sides.lse_b), out, lse,
                   stream);
    std::vector<float> expected, expected_lse;
    sides.merge(expected, expected_lse);
    auto const got = test::download(out, stream);
    for (std::size_t i = 0; i < got.size(); ++i) {
      constexpr float ulp = std::is_same_v<T, Half> ? 0x1p-11F : 0x1p-8F;
      REQUIRE(std::fabs(to_float(got[i]) - expected[i]) <= ulp * std::fabs(expected[i]) + 1e-6F);
    }
  };
  check_type(Half{});
  check_type(BFloat16{});
}

TEST_CASE("Merging is one launch that can be captured", "[merge]") {
  test::Stream const stream;
  Sides const sides(64, 128, 5);
  auto const out_a = test::upload(sides.out_a);
  auto const out_b = test::upload(sides.out_b);
  auto const lse_a = test::upload(sides.lse_a);
  auto const lse_b = test::upload(sides.lse_b);
  DeviceArray<float> const out(sides.out_a.size());
  DeviceArray<float> const lse(sides.lse_a.size());
  auto const call = [&] { merge_async(out_a, lse_a, out_b, lse_b, out, lse, stream); };
  if (auto const stats = test::count(stream, call)) {
    CHECK(stats->kernel_launches == 1);
    CHECK(stats->host_syncs == 0);
    CHECK(stats->mallocs + stats->async_mallocs == 0);
    CHECK(stats->global_store_bytes == 64 * 128 * 4 + 64 * 4);
    CHECK(stats->global_load_sectors <= 2 * 64 * 128 * 4 / 32 + 2 * 64);
  }
  test::Graph const graph(stream, [&] { call(); });
  Sides const others(64, 128, 6);
  check(cudaMemcpy(out_a.data(), others.out_a.data(), out_a.size_bytes(), cudaMemcpyHostToDevice),
        "data");
  check(cudaMemcpy(out_b.data(), others.out_b.data(), out_b.size_bytes(), cudaMemcpyHostToDevice),
        "data");
  check(cudaMemcpy(lse_a.data(), others.lse_a.data(), lse_a.size_bytes(), cudaMemcpyHostToDevice),
        "data");
  check(cudaMemcpy(lse_b.data(), others.lse_b.data(), lse_b.size_bytes(), cudaMemcpyHostToDevice),
        "data");
  graph.launch(stream);
  check_close(others, test::download(out, stream), test::download(lse, stream));
}

TEST_CASE("Merging says which sizes do not fit", "[merge]") {
  test::Stream const stream;
  DeviceArray<float> const two(2);
  DeviceArray<float> const three(3);
  DeviceArray<float> const four(4);
  auto const rejects = [&](std::string const& message, Span<float> out_a, Span<float> lse_a,
                           Span<float> out_b, Span<float> lse_b, Span<float> out) {
    try {
      merge_async(out_a, lse_a, out_b, lse_b, out, two.span(), stream);
      FAIL("accepted: " << message);
    } catch (InvalidArgument const& error) {
      CAPTURE(error.what());
      CHECK(std::string(error.what()).find(message) != std::string::npos);
    }
  };
  rejects("lse_a, lse_b and lse 3, 2 and 2", four, three, four, two, four);
  rejects("lse_a, lse_b and lse 2, 3 and 2", four, two, four, three, four);
  rejects("out_a, out_b and out have 3, 4 and 4", three, two, four, two, four);
  rejects("out_a, out_b and out have 4, 3 and 4", four, two, three, two, four);
  rejects("out_a, out_b and out have 3, 3 and 3", three, two, three, two, three);
}
