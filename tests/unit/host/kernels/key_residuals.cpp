#include <kvfreeze/host/kernels/key_residuals.hpp>

#include "key_code_data.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace host = kvfreeze::host;

namespace {

/// The residual of one channel, as the format has it.
template <int Residual>
int residual_of(std::byte const* row, int channel) {
  int const at = channel % 64;
  std::byte const* const p =
      row + host::residual_bytes<Residual>(64) * static_cast<std::size_t>(channel / 64);
  if constexpr (Residual == 2) {
    return (std::to_integer<int>(p[at % 16]) >> (2 * (at / 16))) & 3;
  } else {
    return (std::to_integer<int>(p[at % 32]) >> (4 * (at / 32))) & 15;
  }
}

template <int Screen, int Residual>
void check_encoding(int dim) {
  CAPTURE(Screen, Residual, dim);
  CodedGroup<Screen, Screen + Residual> const coded(dim, static_cast<unsigned>(dim), 0.7F);
  std::size_t const bytes = host::residual_bytes<Residual>(dim);
  CHECK(bytes == static_cast<std::size_t>((dim + 63) / 64 * 8 * Residual));
  std::vector<std::byte> row(bytes + 16);
  for (int r = 0; r < 64; ++r) {
    std::fill(row.begin(), row.end(), std::byte{0xA5});
    host::encode_key_residual<Screen, Residual>(
        coded.keys.data() + r * dim, dim, coded.minima.data(), coded.steps.data(), row.data());
    REQUIRE(row[bytes] == std::byte{0xA5});
    for (int c = 0; c < host::FoldedQueries::padded(dim); ++c) {
      int expected = 0;
      if (c < dim) {
        auto const i = static_cast<std::size_t>(c);
        float const step = kvfreeze::to_float(coded.steps[i]);
        float const inverse = step > 0.0F ? 1.0F / step : 0.0F;
        float const k = coded.keys[static_cast<std::size_t>(r * dim + c)];
        float const exact =
            (k - kvfreeze::to_float(coded.minima[i])) * inverse * static_cast<float>(1 << Residual);
        int const full = static_cast<int>(
            std::fmin(std::fmax(exact, 0.0F), static_cast<float>((1 << (Screen + Residual)) - 1)));
        REQUIRE(full >> Residual == coded.codes[static_cast<std::size_t>(r * dim + c)]);
        expected = full & ((1 << Residual) - 1);
      }
      REQUIRE(residual_of<Residual>(row.data(), c) == expected);
    }
  }
  // Where there are such codes: levels are the same, so the nested codes are too.
  if constexpr (Screen == Residual) {
    CodedGroup<Screen + Residual> const full(dim, static_cast<unsigned>(dim), 0.7F);
    for (int r = 0; r < 64; ++r) {
      host::encode_key_residual<Screen, Residual>(
          coded.keys.data() + r * dim, dim, coded.minima.data(), coded.steps.data(), row.data());
      for (int c = 0; c < dim; ++c) {
        auto const i = static_cast<std::size_t>(r * dim + c);
        REQUIRE(full.codes[i] ==
                (coded.codes[i] << Residual) + residual_of<Residual>(row.data(), c));
      }
    }
  }
}

template <int Residual>
void check_logits(int dim, int heads, int count) {
  CAPTURE(Residual, dim, heads, count);
  int const groups = 5;
  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 9, 0.4F);
  FoldedMemory folded(groups, heads, dim);
  std::size_t const bytes = host::residual_bytes<Residual>(dim);
  std::size_t const block_bytes = 16 * (bytes + 8) + 32;
  std::vector<std::byte> pool(static_cast<std::size_t>((count + 15) / 16) * block_bytes);
  host::CodeRows const rows{pool.data(), block_bytes, bytes + 8};
  std::vector<CodedGroup<2>> coded;
  for (int g = 0; g < groups; ++g) {
    auto const& group = coded.emplace_back(dim, static_cast<unsigned>(g));
    host::fold_queries(q.data(), heads, dim, group.minima.data(), group.steps.data(), folded.view,
                       g);
  }
  std::vector<std::uint32_t> group_of(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    auto const g = static_cast<std::uint32_t>(i * 7 % groups);
    group_of[static_cast<std::size_t>(i)] = g;
    auto const& group = coded[g];
    host::encode_key_residual<2, Residual>(group.keys.data() + i % 64 * dim, dim,
                                           group.minima.data(), group.steps.data(),
                                           const_cast<std::byte*>(rows.row(i)));
  }
  int const stride = count + 3;
  auto logits = normal_numbers(static_cast<std::size_t>(heads * stride), 11);
  auto const before = logits;
  host::add_residuals<Residual>(rows, count, group_of.data(), folded.view, logits.data(), stride);
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < stride; ++i) {
      auto const at = static_cast<std::size_t>(h * stride + i);
      if (i >= count) {
        REQUIRE(logits[at] == before[at]);
        continue;
      }
      auto const g = group_of[static_cast<std::size_t>(i)];
      std::int8_t const* const weights = folded.view.weights_of(g, h);
      int twice = 0;
      for (int c = 0; c < dim; ++c) {
        twice += weights[c] * (2 * residual_of<Residual>(rows.row(i), c) - ((1 << Residual) - 1));
      }
      float const unit = folded.view.scale_of(g, h).unit / static_cast<float>(2 << Residual);
      REQUIRE(logits[at] == std::fma(static_cast<float>(twice), unit, before[at]));
    }
  }
}

}  // namespace

TEST_CASE("Residuals are the bits below the screen's") {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    check_encoding<2, 2>(dim);
    check_encoding<2, 4>(dim);
    check_encoding<3, 2>(dim);
    check_encoding<4, 4>(dim);
  }
}

TEST_CASE("Residuals of keys out of the group's range are those of the clamped code") {
  CodedGroup<2> const coded(8, 1);
  float const infinity = std::numeric_limits<float>::infinity();
  std::vector<float> const key = {1e30F, -1e30F, infinity, 1.5F, -infinity, 100.0F, -100.0F, 1e38F};
  std::vector<std::byte> row(host::residual_bytes<4>(8));
  host::encode_key_residual<2, 4>(key.data(), 8, coded.minima.data(), coded.steps.data(),
                                  row.data());
  std::vector<int> residuals;
  for (int c = 0; c < 8; ++c) {
    residuals.push_back(residual_of<4>(row.data(), c));
  }
  CHECK(residuals == std::vector<int>{15, 0, 15, 0, 0, 15, 0, 15});
}

TEST_CASE("Residuals correct the logits of rows of any group") {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    for (int const heads : {1, 3, 5}) {
      for (int const count : {1, 15, 16, 53}) {
        check_logits<2>(dim, heads, count);
        check_logits<4>(dim, heads, count);
      }
    }
  }
}

TEST_CASE("A screen and its residual estimate as the full code does") {
  int const dim = 64;
  auto const q = normal_numbers(dim, 21, 0.4F);
  CodedGroup<2, 4> const screen(dim, 4);
  CodedGroup<4> const full(dim, 4);
  FoldedMemory folded(1, 1, dim);
  host::fold_queries(q.data(), 1, dim, screen.minima.data(), screen.steps.data(), folded.view, 0);
  std::vector<float> logits(64);
  host::scan_folded<2>(folded.view, 0, screen.group.data(), 64, logits.data(), 64);
  std::size_t const bytes = host::residual_bytes<2>(dim);
  std::vector<std::byte> residuals(64 * bytes);
  for (std::size_t r = 0; r < 64; ++r) {
    host::encode_key_residual<2, 2>(screen.keys.data() + r * dim, dim, screen.minima.data(),
                                    screen.steps.data(), residuals.data() + r * bytes);
  }
  std::vector<std::uint32_t> const groups(64, 0U);
  host::add_residuals<2>({residuals.data(), 16 * bytes, bytes}, 64, groups.data(), folded.view,
                         logits.data(), 64);
  std::vector<float> expected(64);
  host::scan_key_codes<4>(q.data(), 1, dim, full.group.data(), full.minima.data(),
                          full.steps.data(), 64, expected.data(), 64);
  // The full code's half step is in its base with exact queries, the screen's part of it is not:
  // 3/8 of a step, by at most half a unit in each channel.
  float const tolerance = folded.view.scale_of(0, 0).unit * 0.375F * 0.5F * dim + 1e-4F;
  for (std::size_t r = 0; r < 64; ++r) {
    REQUIRE(std::fabs(logits[r] - expected[r]) <= tolerance);
  }
}
