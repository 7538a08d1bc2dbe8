#include <kvfreeze/digest/nested_key_codes.hpp>

#include "key_code_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace host = kvfreeze::host;

namespace {

double product(float const* q, float const* k, int dim) {
  double sum = 0.0;
  for (int c = 0; c < dim; ++c) {
    sum += static_cast<double>(q[c]) * static_cast<double>(k[c]);
  }
  return sum;
}

template <int Screen, int Total>
void check(int dim, int heads) {
  CAPTURE(Screen, Total, dim, heads);
  using Group = NestedKeyGroup<Screen, Total>;
  using Digest = typename Group::Digest;
  Group const nested(dim, static_cast<unsigned>(dim));
  CHECK(nested.group.size() % 64 == 0);
  int planes = 0;
  for (int quad = 0; quad < dim / 4; ++quad) {
    planes += nested.planes(4 * quad);
  }
  REQUIRE(planes == Digest::units(dim));
  CHECK(4 * 2 * planes >= Screen * dim);
  CHECK(4 * 2 * planes < Screen * dim + 16);

  std::vector<float> decoded(nested.keys.size());
  Digest::decode(nested.group.data(), dim, decoded.data());
  for (int row = 0; row < 64; ++row) {
    for (int c = 0; c < dim; ++c) {
      auto const i = static_cast<std::size_t>(row * dim + c);
      float const cell = nested.cell(c);
      float const middle =
          nested.origin(c) + (static_cast<float>(nested.screened(row, c)) + 0.5F) * cell;
      REQUIRE(decoded[i] == Approx(middle).margin(1e-5));
      // No key is further than half a cell from what stands for it, but for what Half rounds.
      float const rounding = std::fabs(nested.origin(c)) * 0x1p-10F + cell * 0.02F + 1e-5F;
      REQUIRE(std::fabs(decoded[i] - nested.keys[i]) <= 0.5F * cell + rounding);
    }
  }

  auto const q = normal_numbers(static_cast<std::size_t>(heads * dim), 17, 0.4F);
  int const stride = 67;
  std::vector<float> logits(static_cast<std::size_t>(heads * stride), -5.0F);
  Digest::scan({q.data(), heads, dim}, nested.group.data(), logits.data(), stride);
  NestedMemory folded(2, heads, dim, Digest::units(dim));
  Digest::fold({q.data(), heads, dim}, nested.group.data(), folded.view, 1);
  for (int h = 0; h < heads; ++h) {
    float const unit = folded.view.screen().scale_of(1, h).unit;
    auto const tolerance = static_cast<double>(unit) * 0.5 * 3.0 * 4.0 * planes + 2e-3;
    for (int row = 0; row < 64; ++row) {
      double const exact = product(q.data() + h * dim, decoded.data() + row * dim, dim);
      auto const got = static_cast<double>(logits[static_cast<std::size_t>(h * stride + row)]);
      REQUIRE(std::fabs(got - exact) <= tolerance);
    }
    REQUIRE(logits[static_cast<std::size_t>(h * stride + 64)] == -5.0F);
  }
}

}  // namespace

TEST_CASE("Nested codes decode and scan within their error") {
  for (int dim = 8; dim <= 136; dim += 8) {
    check<1, 5>(dim, 3);
    check<2, 4>(dim, 2);
  }
  for (int heads = 1; heads <= 9; ++heads) {
    check<1, 5>(64, heads);
  }
  check<3, 7>(64, 3);
  check<4, 8>(128, 3);
  check<1, 3>(512, 2);
}

TEST_CASE("A screen of one bit at dim 64 takes 12 bytes a row") {
  CHECK(kvfreeze::NestedKeyCodes<1, 5>::bytes(64) == 64 * 12);
  CHECK(kvfreeze::NestedKeyCodes<2, 6>::bytes(64) == 64 * 20);
}

TEST_CASE("Planes go to the quads with the largest error, 16 times less after each") {
  std::vector<float> errors = {1.0F, 100.0F, 3.0F, 2000.0F};
  std::vector<std::uint8_t> planes(4, 9);
  host::kernels::give_planes(errors.data(), 4, 6, planes.data());
  // 2000, 125, 100 | 7.8, 6.25 | 3
  CHECK(planes == std::vector<std::uint8_t>{0, 2, 1, 3});
  errors = {0.0F, 0.0F};
  planes.assign(2, 9);
  host::kernels::give_planes(errors.data(), 2, 4, planes.data());
  CHECK(std::accumulate(planes.begin(), planes.end(), 0) == 4);
  CHECK(*std::max_element(planes.begin(), planes.end()) <= host::most_planes);
}

TEST_CASE("Channels that no query looks at get no planes") {
  int const dim = 64;
  auto const keys = normal_numbers(64 * 64, 3);
  std::vector<float> importance(64, 0.0F);
  std::fill_n(importance.begin() + 16, 16, 1.0F);  // four quads of sixteen
  using Digest = kvfreeze::NestedKeyCodes<1, 5>;
  std::vector<std::byte> group(Digest::bytes(dim));
  Digest::encode(keys.data(), importance.data(), dim, group.data());
  for (int quad = 0; quad < 16; ++quad) {
    CHECK(host::planes_of(Digest::codes(group.data(), dim).quarters, quad) ==
          (quad >= 4 && quad < 8 ? 2 : 0));
  }
}

TEST_CASE("Queries' weights lower the screen's error where they look") {
  int const dim = 64;
  using Digest = kvfreeze::NestedKeyCodes<1, 5>;
  NestedKeyGroup<1, 5> const nested(dim, 5);
  auto const error = [&](float const* importance) {
    std::vector<std::byte> group(Digest::bytes(dim));
    Digest::encode(nested.keys.data(), importance, dim, group.data());
    std::vector<float> decoded(nested.keys.size());
    Digest::decode(group.data(), dim, decoded.data());
    double sum = 0.0;  // expected squares for queries of these weights, channels independent
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      auto const off = static_cast<double>(decoded[i] - nested.keys[i]);
      sum += static_cast<double>(nested.importance[i % 64]) * off * off;
    }
    return sum;
  };
  CHECK(error(nested.importance.data()) < 0.75 * error(nullptr));
}

TEST_CASE("Nested codes of keys beyond Half, of equal keys and of huge weights stay finite") {
  int const dim = 16;
  using Digest = kvfreeze::NestedKeyCodes<1, 5>;
  std::vector<float> keys(64 * 16, 1e7F);
  for (std::size_t i = 0; i < keys.size(); i += 3) {
    keys[i] = -1e6F;
  }
  std::vector<float> const importance(16, 1e30F);
  std::vector<std::byte> group(Digest::bytes(dim));
  std::vector<float> decoded(keys.size());
  Digest::encode(keys.data(), importance.data(), dim, group.data());
  Digest::decode(group.data(), dim, decoded.data());
  CHECK(std::all_of(decoded.begin(), decoded.end(), [](float x) { return std::isfinite(x); }));
  std::fill(keys.begin(), keys.end(), 1.5F);
  Digest::encode(keys.data(), importance.data(), dim, group.data());
  Digest::decode(group.data(), dim, decoded.data());
  CHECK(std::all_of(decoded.begin(), decoded.end(),
                    [](float x) { return std::fabs(x - 1.5F) < 2e-3F; }));
  std::vector<float> const q(16, 0.0F);
  std::vector<float> logits(64, 1.0F);
  Digest::scan({q.data(), 1, dim}, group.data(), logits.data(), 64);
  CHECK(std::count(logits.begin(), logits.end(), 0.0F) == 64);
}
