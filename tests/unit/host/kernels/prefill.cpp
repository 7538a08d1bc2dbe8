#include <kvfreeze/host/kernels/attention.hpp>
#include <kvfreeze/host/kernels/prefill.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

namespace host = kvfreeze::host;

namespace {

/// Prefill of `queries` queries, the last rows of the context, against decode of each.
void check(int rows, int queries, int heads, int dim, bool gaps) {
  CAPTURE(rows, queries, heads, dim, gaps);
  AttentionRows<kvfreeze::Half> const data(rows, dim, 0, static_cast<unsigned>(rows + dim));
  std::vector<std::int32_t> positions(static_cast<std::size_t>(rows));
  for (int i = 0; i < rows; ++i) {
    positions[static_cast<std::size_t>(i)] = gaps ? i + i / 5 : i;
  }
  int const first_query = (rows == 0 ? 0 : positions.back()) + 1 - queries;
  auto const q = normal_numbers(static_cast<std::size_t>(queries * heads * dim), 5, 0.4F);
  std::deque<AttentionState> states;
  std::vector<host::OnlineSoftmax> views;
  for (int i = 0; i < queries; ++i) {
    views.push_back(states.emplace_back(heads, dim).view);
  }
  std::vector<float> k(static_cast<std::size_t>(64 * dim));
  std::vector<float> v(k.size());
  for (int first = 0; first < rows; first += 64) {
    int const n = std::min(64, rows - first);
    for (int r = 0; r < n; ++r) {
      auto const slot = static_cast<std::uint32_t>(first + r);
      auto const elements = static_cast<std::size_t>(dim);
      host::to_floats(data.blocks.k(slot), k.data() + r * dim, elements);
      host::to_floats(data.blocks.v(slot), v.data() + r * dim, elements);
    }
    host::attend_tile({k.data(), v.data(), n, gaps ? positions.data() + first : nullptr, first},
                      q.data(), heads * dim, queries, first_query, views.data());
  }
  for (int i = 0; i < queries; ++i) {
    auto const seen =
        std::upper_bound(positions.begin(), positions.end(), first_query + i) - positions.begin();
    AttentionState expected(heads, dim);
    host::attend(data.blocks, nullptr, static_cast<int>(seen), q.data() + i * heads * dim,
                 expected.view, nullptr, 0);
    AttentionState const& got = states[static_cast<std::size_t>(i)];
    REQUIRE(got.max == expected.max);
    REQUIRE(got.sum == expected.sum);
    REQUIRE(got.out == expected.out);
  }
}

}  // namespace

TEST_CASE("Prefill has the bits of decode") {
  check(150, 40, 3, 64, false);
  check(150, 40, 3, 64, true);
  check(64, 64, 1, 128, false);
  check(1, 1, 4, 64, false);
  check(70, 70, 5, 40, true);
  for (int dim = 8; dim <= 264; dim += 8) {
    check(90, 7, 3, dim, dim % 16 == 0);
  }
  for (int heads = 1; heads <= 9; ++heads) {
    check(100, 9, heads, 64, false);
  }
}

TEST_CASE("A tile in the future leaves the state alone") {
  AttentionState state(2, 8);
  std::vector<float> const rows(64 * 8, 1.0F);
  host::attend_tile({rows.data(), rows.data(), 64, nullptr, 10}, rows.data(), 16, 1, 9,
                    &state.view);
  CHECK(state.sum[0] == 0.0F);
  host::attend_tile({rows.data(), rows.data(), 0, nullptr, 0}, rows.data(), 16, 1, 9, &state.view);
  CHECK(state.sum[1] == 0.0F);
}
