#include <kvfreeze/gpu/entropy.cuh>
#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/kernels/convert.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <gpu/device.cuh>
#include <gpu/segment_data.cuh>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

std::vector<float> noise(std::size_t n, float sigma, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

template <Element T>
std::vector<T> narrowed(std::vector<float> const& wide) {
  std::vector<T> out(wide.size());
  host::from_floats(wide.data(), out.data(), wide.size());
  return out;
}

bool close(double got, double expected) {
  return std::abs(got - expected) <= 5e-7 * (1.0 + std::abs(expected));
}

/// The documented tolerance.
void check_against(gpu::Entropy const& got, host::Entropy const& expected) {
  REQUIRE(got.status == EntropyStatus::valid);
  REQUIRE(got.top_index == expected.top_index);
  REQUIRE(close(got.log_sum_exp, expected.log_sum_exp));
  REQUIRE(close(got.entropy_nats, expected.entropy_nats));
  REQUIRE(std::abs(got.top_probability - expected.top_probability) <=
          5e-7 * expected.top_probability);
}

/// Rows on the device, `skew` elements behind an aligned address; what is around them is poison.
template <Element T>
std::vector<gpu::Entropy> on_device(std::vector<T> const& logits, std::size_t row_length,
                                    std::size_t skew, test::Stream const& stream) {
  test::Skewed<T> const input(logits, skew);
  std::size_t const rows = logits.size() / row_length;
  auto const results = test::filled<gpu::Entropy>(rows, {});
  Workspace const workspace(entropy_workspace_bytes(rows, row_length));
  entropy_async<T>(input.span(), row_length, results, workspace, stream);
  return test::download(results, stream);
}

bool same_bits(gpu::Entropy const& a, gpu::Entropy const& b) {
  return a.log_sum_exp == b.log_sum_exp && a.entropy_nats == b.entropy_nats &&
         a.top_probability == b.top_probability && a.top_index == b.top_index;
}

}  // namespace

TEMPLATE_TEST_CASE("Entropy agrees with the host", "[entropy]", float, Half, BFloat16) {
  test::Stream const stream;
  unsigned round = 0;
  for (std::size_t const n : {1U, 2U, 7U, 17U, 255U, 4095U, 4096U, 4097U, 50257U}) {
    for (float const sigma : {0.0F, 0.01F, 1.0F, 5.0F, 500.0F}) {
      ++round;
      auto const logits = narrowed<TestType>(noise(3 * n, sigma, round));
      auto const got = on_device(logits, n, round % 9, stream);
      CAPTURE(n, sigma, round);
      for (std::size_t row = 0; row < 3; ++row) {
        std::span const one(logits.data() + row * n, n);
        check_against(got[row], host::entropy<TestType>(one));
      }
    }
  }
}

TEST_CASE("Entropy stands extremes", "[entropy]") {
  test::Stream const stream;
  std::vector<std::vector<float>> rows;
  rows.push_back({-3e38F, 3e38F, 1.0F, -infinity});
  rows.push_back({-0.0F, 0.0F, -1.0F});
  rows.push_back({0.0F, -0.0F, -1.0F});
  rows.push_back(std::vector<float>(9000, -infinity));
  rows.back()[8500] = 3.0F;
  rows.back()[8900] = 3.0F;
  rows.push_back(std::vector<float>(9000, -3e38F));
  rows.back()[5000] = 3e38F;
  rows.push_back(std::vector<float>(49152, -1e5F));  // equal: ln n
  auto ascending = noise(20000, 1.0F, 1);
  for (std::size_t i = 0; i < ascending.size(); ++i) {
    ascending[i] += static_cast<float>(i) * 0.002F;
  }
  rows.push_back(ascending);
  std::reverse(ascending.begin(), ascending.end());
  rows.push_back(ascending);
  for (auto const& row : rows) {
    CAPTURE(row.size(), row[0], row[1]);
    check_against(on_device(row, row.size(), 1, stream).front(), host::entropy<float>(row));
  }
  CHECK(on_device(rows[5], rows[5].size(), 0, stream).front().entropy_nats ==
        Approx(std::log(49152.0)).epsilon(1e-12));
}

TEMPLATE_TEST_CASE("A row has the same bits in every batch and at every address", "[entropy]",
                   float, Half) {
  test::Stream const stream;
  for (std::size_t const n : {1001U, 9001U}) {
    auto const row = narrowed<TestType>(noise(n, 3.0F, 1));
    auto const alone = on_device(row, n, 0, stream).front();
    for (std::size_t skew = 1; skew < 8; ++skew) {
      CHECK(same_bits(on_device(row, n, skew, stream).front(), alone));
    }
    auto batch = narrowed<TestType>(noise(4 * n, 3.0F, 2));
    batch.insert(batch.end(), row.begin(), row.end());
    batch.insert(batch.end(), row.begin(), row.end());
    auto const got = on_device(batch, n, 3, stream);
    CHECK(same_bits(got[4], alone));
    CHECK(same_bits(got[5], alone));
  }
}

TEST_CASE("Rows without an entropy say so and leave the others alone", "[entropy]") {
  test::Stream const stream;
  for (std::size_t const n : {40U, 9000U}) {
    auto const good = noise(n, 1.0F, 3);
    std::vector<float> logits;
    for (int row = 0; row < 5; ++row) {
      logits.insert(logits.end(), good.begin(), good.end());
    }
    std::size_t const at = n - 20;
    logits[n + at] = not_a_number;
    logits[n + at + 2] = infinity;
    logits[2 * n + at + 1] = infinity;
    logits[2 * n + at + 3] = -not_a_number;
    std::fill_n(logits.begin() + static_cast<std::ptrdiff_t>(3 * n), n, -infinity);
    auto const got = on_device(logits, n, 0, stream);
    check_against(got[0], host::entropy<float>(good));
    CHECK(got[1].status == EntropyStatus::not_finite);
    CHECK(got[1].top_index == at);
    CHECK(std::isnan(got[1].entropy_nats));
    CHECK(got[2].status == EntropyStatus::not_finite);
    CHECK(got[2].top_index == at + 1);
    CHECK(got[3].status == EntropyStatus::no_mass);
    CHECK(std::isnan(got[3].log_sum_exp));
    check_against(got[4], host::entropy<float>(good));

    auto const input = test::upload(logits);
    auto const results = test::filled<gpu::Entropy>(5, {});
    Workspace const workspace(entropy_workspace_bytes(5, n));
    CHECK_THROWS_WITH(entropy<float>(input, n, results, workspace, stream),
                      "entropy: logits[" + std::to_string(at) + "] of " + std::to_string(n) +
                          " is NaN or +infinity");
    auto const row = [&](std::size_t i) { return input.span().subspan(i * n, n); };
    CHECK_THROWS_WITH(entropy<float>(row(3), workspace, stream),
                      "entropy: all " + std::to_string(n) + " logits are -infinity");
    check_against(entropy<float>(row(4), workspace, stream), host::entropy<float>(good));
  }
}

TEST_CASE("Entropy's change against a running mean", "[entropy]") {
  test::Stream const stream;
  for (std::size_t const n : {100U, 5000U}) {
    auto const input = test::upload(noise(3 * n, 1.0F, 3));
    auto const means = test::upload(std::vector<float>{1.5F, not_a_number, -2.0F});
    auto const results = test::filled<gpu::Entropy>(3, {});
    Workspace const workspace(entropy_workspace_bytes(3, n));
    entropy_async<float>(input, n, means, results, workspace, stream);
    auto const got = test::download(results, stream);
    CHECK(got[0].change == got[0].entropy_nats - 1.5);
    CHECK(got[1].change == 0.0);
    CHECK(got[2].change == got[2].entropy_nats + 2.0);
  }
}

TEST_CASE("entropy refuses what does not fit", "[entropy]") {
  test::Stream const stream;
  auto const input = test::filled<float>(300, 1.0F);
  auto const results = test::filled<gpu::Entropy>(3, {});
  auto const means = test::filled<float>(2, 1.0F);
  Workspace const workspace(entropy_workspace_bytes(3, 100));
  CHECK_THROWS_WITH(entropy<float>({}, workspace, stream), "entropy: there are no logits");
  CHECK_THROWS_WITH(entropy_async<float>(input, 99, results, workspace, stream),
                    "entropy: logits has 300 elements, expected 297");
  CHECK_THROWS_AS(entropy_async<float>(input, 100, means, results, workspace, stream),
                  InvalidArgument);
  CHECK_THROWS_AS(entropy_async<float>(input, 100, results, workspace.span().first(1), stream),
                  InvalidArgument);
  CHECK_NOTHROW(entropy_async<float>({}, 100, {}, workspace, stream));
}

TEST_CASE("entropy in a graph, and what it asks of the device", "[entropy]") {
  test::Stream const stream;
  std::size_t const n = 128256;
  auto const input = test::filled<Half>(n, {});
  auto const mean = test::filled<float>(1, 2.0F);
  auto const result = test::filled<gpu::Entropy>(1, {});
  Workspace const workspace(entropy_workspace_bytes(1, n));
  test::Graph const graph(stream,
                          [&] { entropy_async<Half>(input, n, mean, result, workspace, stream); });
  for (unsigned replay = 0; replay < 2; ++replay) {
    auto const logits = narrowed<Half>(noise(n, 4.0F, replay));
    check(cudaMemcpyAsync(input.data(), logits.data(), input.size_bytes(), cudaMemcpyHostToDevice,
                          stream.get()),
          "copy");
    graph.launch(stream);
    check_against(test::download(result, stream).front(), host::entropy<Half>(logits));
  }

  auto const asked =
      test::count(stream, [&] { entropy_async<Half>(input, n, mean, result, workspace, stream); });
  if (!asked) {
    WARN("no counters here");
    return;
  }
  CHECK(asked->kernel_launches == 2);
  CHECK(asked->memsets == 0);
  CHECK(asked->host_syncs == 0);
  CHECK(asked->mallocs == 0);
  CHECK(test::useful(*asked, 2 * n) > 0.95);
  WARN(asked->thread_instructions / n << " instructions a logit, useful bytes of sectors "
                                      << test::useful(*asked, 2 * n));
}
