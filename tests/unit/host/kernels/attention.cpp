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

namespace {

template <kvfreeze::Element T>
void check_known(int rows, int first, int heads, int dim) {
  CAPTURE(rows, first, heads, dim);
  AttentionRows<T> const data(first + rows, dim + 8, 8, static_cast<unsigned>(rows + dim));
  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 17, 0.4F);
  std::vector<std::uint32_t> slots(static_cast<std::size_t>(rows));
  std::iota(slots.begin(), slots.end(), static_cast<std::uint32_t>(first));
  AttentionState expected(heads, dim);
  int const stride = rows + first + 3;
  std::vector<float> logits(static_cast<std::size_t>(heads * stride), -7.0F);
  host::attend(data.blocks, slots.data(), rows, q.data(), expected.view, logits.data(), stride);
  AttentionState state(heads, dim);
  host::attend_known(data.blocks, first, rows, logits.data(), stride, state.view);
  CHECK(state.max == expected.max);
  CHECK(state.sum == expected.sum);
  CHECK(state.out == expected.out);
  std::vector<float> known(logits.size(), -7.0F);
  host::block_logits(data.blocks, first + rows, q.data(), heads, dim, known.data(), stride);
  for (int h = 0; h < heads; ++h) {
    auto const begin = known.begin() + h * stride;
    CHECK(std::equal(begin + first, begin + first + rows, logits.begin() + h * stride));
    CHECK(std::all_of(begin + first + rows, begin + stride, [](float x) { return x == -7.0F; }));
  }
}

/// Rows of logits and values, weighed run by run, in doubles.
void check_weigh(int heads, std::vector<int> const& counts, bool in_place) {
  CAPTURE(heads, counts, in_place);
  constexpr int dim = 24;
  int const n = std::accumulate(counts.begin(), counts.end(), 0);
  int const stride = n + 5;
  auto logits = normal_numbers(static_cast<std::size_t>(heads * stride), 21, 6.0F);
  for (std::size_t i = 3; i < logits.size(); i += 5) {
    logits[i] = -std::numeric_limits<float>::infinity();
  }
  auto const original = logits;
  auto const values = normal_numbers(static_cast<std::size_t>(n * dim), 22);
  std::vector<float> separate(logits.size(), -7.0F);
  float* const weights = in_place ? logits.data() : separate.data();
  AttentionState state(heads, dim);
  int first = 0;
  for (int const count : counts) {
    host::weigh(logits.data() + first, stride, count, state.view, weights + first);
    for (int h = 0; h < heads; ++h) {
      for (int i = first; i < first + count; ++i) {
        for (int d = 0; d < dim; ++d) {
          float& out = state.out[static_cast<std::size_t>(h * dim + d)];
          out =
              std::fma(weights[h * stride + i], values[static_cast<std::size_t>(i * dim + d)], out);
        }
      }
    }
    first += count;
  }
  std::vector<float> result(state.out.size());
  state.view.finish(result.data(), nullptr);
  for (int h = 0; h < heads; ++h) {
    float const* const row = original.data() + h * stride;
    CHECK(state.max[static_cast<std::size_t>(h)] == *std::max_element(row, row + n));
    double sum = 0.0;
    std::vector<double> expected(dim, 0.0);
    for (int i = 0; i < n; ++i) {
      double const weight = std::exp2(static_cast<double>(row[i]));
      sum += weight;
      for (std::size_t d = 0; d < dim; ++d) {
        expected[d] += weight * static_cast<double>(values[static_cast<std::size_t>(i) * dim + d]);
      }
    }
    for (std::size_t d = 0; d < dim; ++d) {
      CHECK(static_cast<double>(result[static_cast<std::size_t>(h * dim) + d]) ==
            Approx(expected[d] / sum).margin(2e-5));
    }
    for (int i = n; !in_place && i < stride; ++i) {
      CHECK(weights[h * stride + i] == -7.0F);
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("Attention over known logits gives the bits of attention", "", float,
                   kvfreeze::Half, kvfreeze::BFloat16) {
  for (int heads = 1; heads <= 9; ++heads) {
    check_known<TestType>(130, 0, heads, 64);
  }
  for (int const dim : {8, 72, 128, 256}) {
    for (int const rows : {1, 15, 16, 63, 64, 65, 200}) {
      check_known<TestType>(rows, 0, 3, dim);
      check_known<TestType>(rows, 37, 3, dim);
    }
  }
}

TEST_CASE("Known logits of no rows change nothing") {
  AttentionState state(2, 16);
  host::RowBlocks<float> const rows;
  host::attend_known(rows, 0, 0, nullptr, 0, state.view);
  host::block_logits(rows, 0, nullptr, 2, 16, nullptr, 0);
  host::weigh(nullptr, 0, 0, state.view, nullptr);
  CHECK(state.max[1] == -std::numeric_limits<float>::infinity());
  CHECK(state.sum[1] == 0.0F);
}

TEST_CASE("Weighed runs make up a softmax") {
  for (bool const in_place : {false, true}) {
    for (int heads = 1; heads <= 5; ++heads) {
      check_weigh(heads, {1, 300, 0, 64, 63, 17}, in_place);
    }
    check_weigh(2, {1000}, in_place);
  }
}

TEST_CASE("A run of at most a tile is weighed to the bits of attention") {
  constexpr int heads = 3;
  constexpr int dim = 64;
  for (int const rows : {1, 16, 47, 64}) {
    AttentionRows<kvfreeze::Half> const data(64 + rows, dim, 0, 31);
    auto const q = normal_numbers(heads * dim, 32, 0.4F);
    AttentionState expected(heads, dim);
    std::vector<float> logits(static_cast<std::size_t>(heads * 128));
    host::attend(data.blocks, nullptr, 64 + rows, q.data(), expected.view, logits.data(), 128);
    AttentionState state(heads, dim);
    host::attend(data.blocks, nullptr, 64, q.data(), state.view, nullptr, 0);
    float* const run = logits.data() + 64;
    host::weigh(run, 128, rows, state.view, run);
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < rows; ++i) {
        for (int d = 0; d < dim; ++d) {
          float& out = state.out[static_cast<std::size_t>(h * dim + d)];
          out = std::fma(run[h * 128 + i],
                         kvfreeze::to_float(data.blocks.v(static_cast<std::uint32_t>(64 + i))[d]),
                         out);
        }
      }
    }
    CHECK(state.max == expected.max);
    CHECK(state.sum == expected.sum);
    CHECK(state.out == expected.out);
  }
}

TEST_CASE("Runs of minus infinity alone weigh nothing") {
  AttentionState state(1, 8);
  std::vector<float> logits(100, -std::numeric_limits<float>::infinity());
  host::weigh(logits.data(), 100, 100, state.view, logits.data());
  CHECK(state.sum[0] == 0.0F);
  CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return x == 0.0F; }));
  float one = 2.0F;
  host::weigh(&one, 1, 1, state.view, &one);
  CHECK(one == 1.0F);
  std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
  host::weigh(logits.data(), 100, 100, state.view, logits.data());
  CHECK(state.max[0] == 2.0F);
  CHECK(state.sum[0] == 1.0F);
}
