#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/dot.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace host = kvfreeze::host;

namespace {

template <kvfreeze::Element T>
void check(int rows, int heads, int dim, bool scattered) {
  CAPTURE(rows, heads, dim, scattered);
  AttentionRows<T> const data(rows, dim + 16, 8, static_cast<unsigned>(rows + dim));
  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 7, 0.4F);
  std::vector<std::uint32_t> slots(static_cast<std::size_t>(rows));
  std::iota(slots.begin(), slots.end(), 0U);
  if (scattered) {
    std::mt19937 random(3);
    std::shuffle(slots.begin(), slots.end(), random);
  }
  AttentionState state(heads, dim);
  int const stride = rows + 3;
  std::vector<float> logits(static_cast<std::size_t>(heads * stride), -7.0F);
  host::attend(data.blocks, scattered ? slots.data() : nullptr, rows, q.data(), state.view,
               logits.data(), stride);
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < rows; ++i) {
      float const expected =
          host::dot(q.data() + h * dim, data.blocks.k(slots[static_cast<std::size_t>(i)]), dim);
      REQUIRE(logits[static_cast<std::size_t>(h * stride + i)] == expected);
    }
    for (int i = rows; i < stride; ++i) {
      REQUIRE(logits[static_cast<std::size_t>(h * stride + i)] == -7.0F);
    }
  }
  std::vector<float> result(state.out.size());
  std::vector<float> lse(state.max.size());
  state.view.finish(result.data(), lse.data());
  std::vector<double> expected;
  std::vector<double> expected_lse;
  naive_attention(data.blocks, slots, q.data(), heads, dim, expected, expected_lse);
  for (std::size_t i = 0; i < result.size(); ++i) {
    REQUIRE(static_cast<double>(result[i]) == Approx(expected[i]).margin(2e-5));
  }
  for (std::size_t h = 0; h < lse.size(); ++h) {
    REQUIRE(static_cast<double>(lse[h]) == Approx(expected_lse[h]).margin(1e-4));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("Attention agrees with a reference for every dim", "", float, kvfreeze::Half,
                   kvfreeze::BFloat16) {
  for (int dim = 8; dim <= 264; dim += 8) {
    check<TestType>(77, 3, dim, dim % 16 == 0);
  }
  check<TestType>(20, 2, 512, false);
}

TEST_CASE("Attention agrees with a reference for head counts and row counts") {
  for (int heads = 1; heads <= 9; ++heads) {
    check<kvfreeze::Half>(130, heads, 64, heads % 2 == 0);
  }
  for (int const rows : {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, 300}) {
    check<kvfreeze::Half>(rows, 3, 64, false);
    check<kvfreeze::Half>(rows, 3, 128, true);
  }
}

TEST_CASE("Attention over no rows gives zeros and minus infinity") {
  AttentionState state(2, 16);
  host::RowBlocks<float> const rows;
  host::attend(rows, nullptr, 0, nullptr, state.view, nullptr, 0);
  std::vector<float> out(32, 1.0F);
  std::vector<float> lse(2, 1.0F);
  state.view.finish(out.data(), lse.data());
  CHECK(std::all_of(out.begin(), out.end(), [](float x) { return x == 0.0F; }));
  CHECK(lse[0] == -std::numeric_limits<float>::infinity());
}

TEST_CASE("Huge logits do not overflow") {
  AttentionRows<float> const data(100, 64, 0, 5);
  auto const q = normal_numbers(64, 9, 1e6F);
  AttentionState state(1, 64);
  host::attend(data.blocks, nullptr, 100, q.data(), state.view, nullptr, 0);
  std::vector<float> out(64);
  state.view.finish(out.data(), nullptr);
  CHECK(host::all_finite(out.data(), out.size()));
  CHECK(state.sum[0] >= 1.0F);
}

TEST_CASE("Rows in two calls, cut at a tile, give the bits of one call") {
  AttentionRows<kvfreeze::Half> const data(200, 64, 0, 11);
  auto const q = normal_numbers(3 * 64, 12, 0.4F);
  std::vector<std::uint32_t> slots(200);
  std::iota(slots.begin(), slots.end(), 0U);
  AttentionState once(3, 64);
  host::attend(data.blocks, nullptr, 200, q.data(), once.view, nullptr, 0);
  AttentionState twice(3, 64);
  host::attend(data.blocks, slots.data(), 128, q.data(), twice.view, nullptr, 0);
  host::attend(data.blocks, slots.data() + 128, 72, q.data(), twice.view, nullptr, 0);
  CHECK(once.out == twice.out);
  CHECK(once.sum == twice.sum);
}
