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
  NestedKeyGroup<Screen, Screen + Residual> const nested(dim, static_cast<unsigned>(dim));
  std::size_t const bytes = host::residual_bytes<Residual>(dim);
  CHECK(bytes == static_cast<std::size_t>((dim + 63) / 64 * 8 * Residual));
  std::vector<std::byte> row(bytes + 16);
  for (int r = 0; r < 64; ++r) {
    std::fill(row.begin(), row.end(), std::byte{0xA5});
    host::encode_key_residual<Residual>(nested.keys.data() + r * dim, nested.codes(), row.data());
    REQUIRE(row[bytes] == std::byte{0xA5});
    for (int c = 0; c < host::FoldedQueries::padded(dim); ++c) {
      int expected = 0;
      if (c < dim) {
        int const full =
            nested.code(nested.keys[static_cast<std::size_t>(r * dim + c)], c, Residual);
        REQUIRE(full >> Residual == nested.screened(r, c));
        expected = full & ((1 << Residual) - 1);
      }
      REQUIRE(residual_of<Residual>(row.data(), c) == expected);
    }
  }
}

template <int Residual>
void check_logits(int dim, int heads, int count) {
  CAPTURE(Residual, dim, heads, count);
  int const groups = 5;
  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 9, 0.4F);
  using Group = NestedKeyGroup<1, 5>;
  NestedMemory folded(groups, heads, dim, Group::Digest::units(dim));
  std::size_t const bytes = host::residual_bytes<Residual>(dim);
  std::size_t const block_bytes = 16 * (bytes + 8) + 32;
  std::vector<std::byte> pool(static_cast<std::size_t>((count + 15) / 16) * block_bytes);
  host::CodeRows const rows{pool.data(), block_bytes, bytes + 8};
  std::vector<Group> coded;
  for (int g = 0; g < groups; ++g) {
    auto const& group = coded.emplace_back(dim, static_cast<unsigned>(g));
    host::fold_nested(q.data(), group.codes(), folded.view, g);
  }
  std::vector<std::uint32_t> group_of(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    auto const g = static_cast<std::uint32_t>(i * 7 % groups);
    group_of[static_cast<std::size_t>(i)] = g;
    auto const& group = coded[g];
    host::encode_key_residual<Residual>(group.keys.data() + i % 64 * dim, group.codes(),
                                        const_cast<std::byte*>(rows.row(i)));
  }
  int const stride = count + 3;
  auto logits = normal_numbers(static_cast<std::size_t>(heads * stride), 11);
  auto const before = logits;
  host::add_residuals<Residual>(rows, count, group_of.data(), folded.view.cells(), logits.data(),
                                stride);
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < stride; ++i) {
      auto const at = static_cast<std::size_t>(h * stride + i);
      if (i >= count) {
        REQUIRE(logits[at] == before[at]);
        continue;
      }
      auto const g = group_of[static_cast<std::size_t>(i)];
      std::int8_t const* const weights = folded.view.cells().weights_of(g, h);
      int twice = 0;
      for (int c = 0; c < dim; ++c) {
        twice += weights[c] * (2 * residual_of<Residual>(rows.row(i), c) - ((1 << Residual) - 1));
      }
      float const unit =
          folded.view.cells().scale_of(g, h).unit / static_cast<float>(2 << Residual);
      REQUIRE(logits[at] == std::fma(static_cast<float>(twice), unit, before[at]));
    }
  }
}

}  // namespace

TEST_CASE("Residuals are the bits below the screen's") {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    check_encoding<1, 2>(dim);
    check_encoding<1, 4>(dim);
    check_encoding<2, 4>(dim);
    check_encoding<4, 4>(dim);
  }
}

TEST_CASE("Residuals of keys out of the group's range are those of the clamped code") {
  NestedKeyGroup<1, 5> const nested(8, 1);
  float const infinity = std::numeric_limits<float>::infinity();
  std::vector<float> const key = {1e30F, -1e30F, infinity, 1.5F, -infinity, 1e4F, -1e4F, 1e38F};
  std::vector<std::byte> row(host::residual_bytes<4>(8));
  host::encode_key_residual<4>(key.data(), nested.codes(), row.data());
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

TEST_CASE("A screen and its residual estimate as the parts of cells do") {
  int const dim = 64;
  auto const q = normal_numbers(dim, 21, 0.4F);
  NestedKeyGroup<1, 5> const nested(dim, 4);
  NestedMemory folded(1, 1, dim, nested.codes().units);
  host::fold_nested(q.data(), nested.codes(), folded.view, 0);
  std::vector<float> logits(64);
  NestedKeyGroup<1, 5>::Digest::scan_folded(folded.view, 0, nested.group.data(), logits.data(), 64);
  std::size_t const bytes = host::residual_bytes<4>(dim);
  std::vector<std::byte> residuals(64 * bytes);
  for (std::size_t r = 0; r < 64; ++r) {
    host::encode_key_residual<4>(nested.keys.data() + r * dim, nested.codes(),
                                 residuals.data() + r * bytes);
  }
  std::vector<std::uint32_t> const groups(64, 0U);
  host::add_residuals<4>({residuals.data(), 16 * bytes, bytes}, 64, groups.data(),
                         folded.view.cells(), logits.data(), 64);
  // Weights are rounded to a unit: digits reach to 3, parts of a cell to half of it on either side.
  float const unit = folded.view.cells().scale_of(0, 0).unit;
  auto const units = static_cast<float>(nested.codes().units * 4);
  float const tolerance = unit * 0.5F * (3.0F * units + 0.5F * dim) + 1e-3F;
  for (int r = 0; r < 64; ++r) {
    double expected = 0.0;
    for (int c = 0; c < dim; ++c) {
      int const part = (nested.screened(r, c) << 4) +
                       residual_of<4>(residuals.data() + static_cast<std::size_t>(r) * bytes, c);
      expected += static_cast<double>(q[static_cast<std::size_t>(c)]) *
                  (static_cast<double>(nested.origin(c)) +
                   (part + 0.5) / 16.0 * static_cast<double>(nested.cell(c)));
    }
    REQUIRE(std::fabs(logits[static_cast<std::size_t>(r)] - static_cast<float>(expected)) <=
            tolerance);
  }
}
