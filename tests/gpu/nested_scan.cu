#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/digest_scan.cuh>
#include <kvfreeze/gpu/refine.cuh>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <gpu/device.cuh>
#include <gpu/digest_data.cuh>
#include <gpu/scan_lanes.cuh>
#include <iostream>
#include <random>
#include <vector>

using namespace kvfreeze;
using namespace kvfreeze::gpu;

namespace {

/// How the rows of a pool lie in the lane.
enum class Order { ascending, random };

/// A lane's pool of rows with lower key bits, on the host and on the device.
template <class Digest, int Residual>
struct Pool {
  int heads;
  int dim;
  std::vector<std::byte> groups;
  std::vector<float> query;
  std::vector<std::uint32_t> rows;
  std::vector<std::byte> residuals;  // [rows][residual_bytes]
  std::vector<float> screen;         // [heads][screen_stride]
  std::size_t screen_stride;
  std::size_t stride;
  bool gathers;
  test::PagedItems device_groups;
  test::PagedItems device_residuals;
  DeviceArray<float> device_query;
  DeviceArray<std::uint32_t> device_rows;
  DeviceArray<float> device_screen;
  DeviceArray<float> device_logits;

  static constexpr int lane_groups = 6;
  static constexpr int lane_rows = lane_groups * Digest::group_rows;

  Pool(int lane_heads, int lane_dim, std::size_t count, Order order, bool gathered, unsigned seed)
      : heads(lane_heads),
        dim(lane_dim),
        groups(test::make_groups<Digest>(lane_groups, dim, seed)),
        query(test::make_queries(heads, dim, seed + 1)),
        rows(make_rows(count, order, seed)),
        residuals(make_residuals(seed)),
        screen(make_screen(heads, seed)),
        screen_stride(lane_rows + 5),
        stride(count + seed % 3),
        gathers(gathered),
        device_groups(groups, Digest::bytes(dim), seed % 3),
        device_residuals(residuals, bytes(), gathered ? 16 : 0),
        device_query(test::upload(query)),
        device_rows(test::upload(rows)),
        device_screen(test::upload(screen)),
        device_logits(test::upload(gathered ? std::vector<float>(size(), test::untouched)
                                            : gathered_screen())) {}

  [[nodiscard]] std::size_t bytes() const { return host::residual_bytes<Residual>(dim); }

  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(heads) * stride; }

  [[nodiscard]] RefineLane descriptor() const {
    RefineLane lane;
    lane.groups = device_groups.template view<CodePages>();
    lane.residuals = device_residuals.template view<CodePages>();
    lane.rows = device_rows.data();
    lane.count = static_cast<std::uint32_t>(rows.size());
    lane.stride = static_cast<std::uint32_t>(stride);
    lane.query = device_query.data();
    lane.logits = device_logits.data();
    lane.screen = gathers ? device_screen.data() : nullptr;
    lane.screen_stride = static_cast<std::uint32_t>(screen_stride);
    return lane;
  }

  [[nodiscard]] std::vector<float> expected() const {
    std::vector<std::int8_t> weights(static_cast<std::size_t>(
        lane_groups * heads * host::NestedQueries::line(dim, Digest::units(dim))));
    std::vector<host::FoldScale> scales(static_cast<std::size_t>(lane_groups * heads));
    host::NestedQueries const folded{weights.data(), scales.data(), heads, dim, Digest::units(dim)};
    for (int g = 0; g < lane_groups; ++g) {
      Digest::fold({query.data(), heads, dim},
                   groups.data() + static_cast<std::size_t>(g) * Digest::bytes(dim), folded, g);
    }
    std::vector<std::uint32_t> group_of(rows.size());
    std::transform(rows.begin(), rows.end(), group_of.begin(), [](std::uint32_t row) {
      return row / static_cast<std::uint32_t>(Digest::group_rows);
    });
    std::vector<float> logits = gathered_screen();
    Digest::template refine<Residual>({residuals.data(), 16 * bytes(), bytes()},
                                      static_cast<int>(rows.size()), group_of.data(), folded,
                                      logits.data(), static_cast<std::ptrdiff_t>(stride));
    return logits;
  }

 private:
  /// Logits as small as the queries are.
  static std::vector<float> make_screen(int heads, unsigned seed) {
    auto logits = test::normal_numbers(static_cast<std::size_t>(heads) * (lane_rows + 5), seed);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      bool const is_small = i / (lane_rows + 5) % 5 == 3;
      logits[i] = is_small ? logits[i] * 0x1p-100F : logits[i];
    }
    return logits;
  }

  static std::vector<std::uint32_t> make_rows(std::size_t count, Order order, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::uint32_t> out(count);
    for (std::uint32_t& row : out) {
      row = static_cast<std::uint32_t>(random() % lane_rows);
    }
    if (order == Order::ascending) {
      std::sort(out.begin(), out.end());
    }
    return out;
  }

  [[nodiscard]] std::vector<std::byte> make_residuals(unsigned seed) const {
    std::mt19937 random(seed);
    std::vector<std::byte> out(rows.size() * bytes());
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::size_t const at = i % bytes();  // channels that there are not have none
      bool const is_there = static_cast<int>(at / (8 * Residual)) * 64 + 63 < dim;
      out[i] = is_there ? static_cast<std::byte>(random()) : std::byte{};
    }
    return out;
  }

  [[nodiscard]] std::vector<float> gathered_screen() const {
    std::vector<float> out(size(), test::untouched);
    for (std::size_t h = 0; h < static_cast<std::size_t>(heads); ++h) {
      for (std::size_t i = 0; i < rows.size(); ++i) {
        out[h * stride + i] = screen[h * screen_stride + rows[i]];
      }
    }
    return out;
  }
};

template <class Digest, int Residual>
void check_refinement(int heads, int dim) {
  CAPTURE(heads, dim, Residual, Digest::group_rows);
  test::Stream const stream;
  std::vector<Pool<Digest, Residual>> pools;
  std::vector<RefineLane> descriptors;
  unsigned seed = 0;
  for (std::size_t const count : {0U, 1U, 31U, 32U, 33U, 200U}) {
    Order const order = seed % 2 == 0 ? Order::ascending : Order::random;
    pools.emplace_back(heads, dim, count, order, seed % 3 != 0, seed);
    descriptors.push_back(pools.back().descriptor());
    ++seed;
  }
  auto const lanes = test::upload(descriptors);
  refine_async<Digest, Residual>(lanes.span(), heads, dim, 200, stream);
  for (auto const& pool : pools) {
    CAPTURE(pool.rows.size());
    CHECK(test::count_different(test::download(pool.device_logits, stream), pool.expected()) == 0);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("A scan of nested key codes gives the host's logits to the bit", "[digest_scan]",
                   (NestedKeyCodes<1, 5>), (NestedKeyCodes<4, 6, 128>)) {
  test::check_all_scans<TestType>();
}

TEST_CASE("A refinement gives the host's logits to the bit", "[refine]") {
  for (int const dim : {8, 40, 64, 96, 128, 256, 512}) {
    check_refinement<NestedKeyCodes<1, 5>, 2>(3, dim);
    check_refinement<NestedKeyCodes<1, 5>, 4>(4, dim);
  }
  for (int const heads : {1, 2, 5, 8, 11}) {
    check_refinement<NestedKeyCodes<1, 5>, 4>(heads, 64);
  }
  check_refinement<NestedKeyCodes<4, 6, 128>, 2>(7, 128);
}

TEST_CASE("A refinement of one lane waits, and refuses what it cannot do", "[refine]") {
  using Digest = NestedKeyCodes<1, 5>;
  test::Stream const stream;
  Pool<Digest, 4> const pool(3, 64, 70, Order::random, false, 5);
  refine<Digest, 4>(pool.descriptor(), 3, 64, stream);
  CHECK(test::count_different(test::download(pool.device_logits, stream), pool.expected()) == 0);
  CHECK_NOTHROW(refine<Digest, 4>(RefineLane{}, 3, 64, stream));
  CHECK_THROWS_AS((refine<Digest, 4>(pool.descriptor(), 0, 64, stream)), InvalidArgument);
  CHECK_THROWS_AS((refine<Digest, 4>(pool.descriptor(), 3, 60, stream)), InvalidArgument);
}

TEST_CASE("A scan of nested key codes is one launch, and moves what it must", "[digest_scan]") {
  test::check_scan_traffic<NestedKeyCodes<1, 5>>(1.35);
}

TEST_CASE("A refinement is one launch, and moves what it must", "[refine]") {
  using Digest = NestedKeyCodes<1, 5>;
  test::Stream const stream;
  constexpr int heads = 4;
  constexpr int dim = 128;
  Pool<Digest, 4> const pool(heads, dim, 256, Order::ascending, true, 6);
  auto const lanes = test::upload(std::vector<RefineLane>{pool.descriptor()});
  auto const stats =
      test::count(stream, [&] { refine_async<Digest, 4>(lanes.span(), heads, dim, 256, stream); });
  if (!stats) {
    WARN("nobody counts on this device");
    return;
  }
  CHECK(stats->kernel_launches == 1);
  CHECK(stats->host_syncs == 0);
  CHECK(stats->mallocs + stats->async_mallocs == 0);
  std::cout << "refinement of 256 rows of 4 bits, a sixth of the groups' rows: a row loads "
            << static_cast<double>(stats->global_load_sectors) / 8.0 << " bytes in sectors, "
            << static_cast<double>(pool.bytes()) << " of them of its code; "
            << static_cast<double>(stats->warp_instructions) / 256.0 << " warp instructions\n";
  CHECK(stats->global_store_bytes == 256 * heads * sizeof(float));
  CHECK(stats->global_store_sectors * 32 == 256 * heads * sizeof(float));
  CHECK(test::sector_efficiency(*stats) > 0.9);
}
