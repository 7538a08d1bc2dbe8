#include <kvfreeze/gpu/importance.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace {

/// Sums as the host adds them up: token by token, head by head.
std::vector<float> summed(std::vector<float> sums, std::vector<float> const& queries, int tokens,
                          std::ptrdiff_t stride, int heads) {
  auto const dim = static_cast<std::ptrdiff_t>(sums.size());
  for (int token = 0; token < tokens; ++token) {
    for (int h = 0; h < heads; ++h) {
      for (std::ptrdiff_t d = 0; d < dim; ++d) {
        float const query = queries[static_cast<std::size_t>(token * stride + h * dim + d)];
        float const x = std::clamp(query, -1e15F, 1e15F);
        float& sum = sums[static_cast<std::size_t>(d)];
        sum = std::fma(x, x, sum);
      }
    }
  }
  return sums;
}

template <class T>
void check_sums(int heads, int dim) {
  CAPTURE(heads, dim);
  test::Stream const stream;
  std::vector<DeviceArray<T>> queries;
  std::vector<DeviceArray<float>> sums;
  std::vector<std::vector<float>> expected;
  std::vector<ImportanceLane<T>> lanes;
  unsigned seed = 0;
  for (int const tokens : {1, 0, 3, 40}) {
    std::ptrdiff_t const stride = 2 * heads * dim;
    auto q = test::normal_numbers(static_cast<std::size_t>(stride * std::max(tokens, 1)), ++seed);
    if (std::is_same_v<T, float>) {
      q[0] = 1e30F;
      q[1] = -1e30F;
    }
    auto const exact = test::narrowed<T>(q);
    auto const before = test::make_importance(dim, seed);
    queries.push_back(test::upload(exact));
    sums.push_back(test::upload(before));
    expected.push_back(summed(before, test::widened(exact), tokens, stride, heads));
    lanes.push_back({queries.back().data(), stride, tokens, sums.back().data()});
  }
  auto const device_lanes = test::upload(lanes);
  note_importance_async<T>(device_lanes.span(), heads, dim, stream);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    CHECK(test::count_different(test::download(sums[i], stream), expected[i]) == 0);
  }
}

}  // namespace

TEST_CASE("Queries' squares are summed in the host's order", "[importance]") {
  for (int const dim : {8, 64, 96, 128, 256, 512}) {
    for (int const heads : {1, 3, 4, 8}) {
      check_sums<float>(heads, dim);
    }
  }
  check_sums<Half>(4, 128);
  check_sums<BFloat16>(3, 64);
}

TEST_CASE("Noting importance is one launch, and refuses what it cannot do", "[importance]") {
  test::Stream const stream;
  Span<ImportanceLane<float> const> const none;
  CHECK_NOTHROW(note_importance_async<float>(none, 1, 64, stream));
  CHECK_THROWS_AS(note_importance_async<float>(none, 0, 64, stream), InvalidArgument);
  CHECK_THROWS_AS(note_importance_async<float>(none, 1, 12, stream), InvalidArgument);
  auto const queries = test::upload(test::normal_numbers(4 * 128, 1));
  auto const sums = test::filled(128, 0.0F);
  auto const lanes =
      test::upload(std::vector<ImportanceLane<float>>{{queries.data(), 4 * 128, 1, sums.data()}});
  auto const stats =
      test::count(stream, [&] { note_importance_async<float>(lanes.span(), 4, 128, stream); });
  if (!stats) {
    WARN("nobody counts on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  CHECK(test::sector_efficiency(*stats) > 0.9);
}
