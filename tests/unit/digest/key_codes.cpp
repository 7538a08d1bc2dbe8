#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/host/digest_scan.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

using kvfreeze::KeyCodes;

namespace {

std::vector<float> noise(std::size_t n, unsigned seed, float sigma = 1.0F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, sigma);
  std::vector<float> out(n);
  for (float& x : out) {
    x = normal(random);
  }
  return out;
}

template <class Digest>
void check(int bits, int dim, int heads) {
  CAPTURE(bits, dim, heads, Digest::group_rows);
  int const rows = Digest::group_rows;
  auto keys = noise(static_cast<std::size_t>(rows * dim), static_cast<unsigned>(dim));
  for (int r = 0; r < rows; ++r) {
    keys[static_cast<std::size_t>(r * dim)] += 40.0F;     // an outlying channel
    keys[static_cast<std::size_t>(r * dim + 3)] = -2.5F;  // a constant one
  }
  std::size_t const bytes = Digest::bytes(dim);
  CHECK(bytes % 64 == 0);
  CHECK(bytes >= static_cast<std::size_t>(rows * dim * bits / 8 + 4 * dim));
  std::vector<std::byte> group(bytes + 64, std::byte{0xA5});
  Digest::encode(keys.data(), dim, group.data());
  for (std::size_t i = bytes; i < group.size(); ++i) {
    REQUIRE(group[i] == std::byte{0xA5});
  }
  std::vector<float> decoded(keys.size());
  Digest::decode(group.data(), dim, decoded.data());
  for (int c = 0; c < dim; ++c) {
    float low = keys[static_cast<std::size_t>(c)];
    float high = low;
    for (int r = 0; r < rows; ++r) {
      low = std::min(low, keys[static_cast<std::size_t>(r * dim + c)]);
      high = std::max(high, keys[static_cast<std::size_t>(r * dim + c)]);
    }
    // Half a step, and what the origin's and the step's rounding to Half can add. The least and the
    // largest key are levels themselves.
    float const step = (high - low) / static_cast<float>((1 << bits) - 1);
    float const rounding =
        std::fabs(low - 0.5F * step) * 0x1p-11F + (high - low) * 0x1p-10F + 1e-6F;
    for (int r = 0; r < rows; ++r) {
      auto const i = static_cast<std::size_t>(r * dim + c);
      bool const is_level = keys[i] == low || keys[i] == high;
      REQUIRE(std::fabs(decoded[i] - keys[i]) <= rounding + (is_level ? 0.0F : 0.5F * step));
    }
  }
  auto const q = noise(static_cast<std::size_t>(heads * dim), 17, 0.4F);
  int const stride = rows + 1;
  std::vector<float> logits(static_cast<std::size_t>(heads * stride), -5.0F);
  Digest::scan({q.data(), heads, dim}, group.data(), logits.data(), stride);
  auto const* const scales =
      reinterpret_cast<kvfreeze::Half const*>(group.data() + rows * dim * bits / 8);
  for (int h = 0; h < heads; ++h) {
    double most = 0.0;  // int8 queries: at most half a unit of the largest weight per code
    for (int c = 0; c < dim; ++c) {
      most =
          std::max(most, std::fabs(static_cast<double>(q[static_cast<std::size_t>(h * dim + c)]) *
                                   static_cast<double>(kvfreeze::to_float(scales[dim + c]))));
    }
    double const tolerance = most / 254.0 * ((1 << bits) - 1) * dim + 1e-3;
    for (int r = 0; r < rows; ++r) {
      double exact = 0.0;
      for (int c = 0; c < dim; ++c) {
        exact += static_cast<double>(q[static_cast<std::size_t>(h * dim + c)]) *
                 static_cast<double>(decoded[static_cast<std::size_t>(r * dim + c)]);
      }
      double const got = static_cast<double>(logits[static_cast<std::size_t>(h * stride + r)]);
      REQUIRE(std::fabs(got - exact) <= tolerance);
    }
    REQUIRE(logits[static_cast<std::size_t>(h * stride + rows)] == -5.0F);
  }
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("Key codes decode and scan within their error", "", ((int Bits), Bits), 2, 3,
                       4, 8) {
  for (int dim = 8; dim <= 264; dim += 8) {
    check<KeyCodes<Bits>>(Bits, dim, 3);
  }
  for (int heads = 1; heads <= 9; ++heads) {
    check<KeyCodes<Bits>>(Bits, 64, heads);
  }
  check<KeyCodes<Bits, 128>>(Bits, 72, 3);
  check<KeyCodes<Bits>>(Bits, 512, 2);
}

TEST_CASE("Key codes of four bits at dim 64 take 36 bytes a row") {
  CHECK(KeyCodes<4>::bytes(64) == 64 * 36);
  CHECK(KeyCodes<2>::bytes(128) == 64 * 32 + 512);
}

TEST_CASE("A group of equal keys is exact but for Half") {
  std::vector<float> const keys(64 * 16, 1.5F);
  std::vector<std::byte> group(KeyCodes<4>::bytes(16));
  KeyCodes<4>::encode(keys.data(), 16, group.data());
  std::vector<float> decoded(keys.size());
  KeyCodes<4>::decode(group.data(), 16, decoded.data());
  CHECK(decoded == keys);
  std::vector<float> const q(16, 1.0F);
  std::vector<float> logits(64);
  KeyCodes<4>::scan({q.data(), 1, 16}, group.data(), logits.data(), 64);
  CHECK(std::count(logits.begin(), logits.end(), 24.0F) == 64);
}

TEST_CASE("Keys beyond Half are clamped, not made infinite") {
  std::vector<float> keys(64 * 8, -1e6F);
  for (std::size_t i = 0; i < keys.size(); i += 16) {
    keys[i] = 1e7F;
  }
  std::vector<std::byte> group(KeyCodes<8>::bytes(8));
  KeyCodes<8>::encode(keys.data(), 8, group.data());
  std::vector<float> decoded(keys.size());
  KeyCodes<8>::decode(group.data(), 8, decoded.data());
  CHECK(std::all_of(decoded.begin(), decoded.end(), [](float x) { return std::isfinite(x); }));
}

TEST_CASE("A zero query has the logit zero") {
  auto const keys = noise(64 * 64, 1);
  std::vector<std::byte> group(KeyCodes<3>::bytes(64));
  KeyCodes<3>::encode(keys.data(), 64, group.data());
  std::vector<float> const q(64, 0.0F);
  std::vector<float> logits(64, 1.0F);
  KeyCodes<3>::scan({q.data(), 1, 64}, group.data(), logits.data(), 64);
  CHECK(std::count(logits.begin(), logits.end(), 0.0F) == 64);
}

TEST_CASE("digest_scan runs over groups and refuses what does not fit") {
  auto const keys = noise(3 * 64 * 64, 2);
  std::size_t const bytes = KeyCodes<4>::bytes(64);
  std::vector<std::byte> groups(3 * bytes);
  for (std::size_t g = 0; g < 3; ++g) {
    KeyCodes<4>::encode(keys.data() + g * 64 * 64, 64, groups.data() + g * bytes);
  }
  auto const q = noise(128, 3);
  std::vector<float> logits(2 * 200);
  CHECK(kvfreeze::host::digest_scan<KeyCodes<4>>({q.data(), 2, 64}, groups, logits, 200) == 192);
  std::vector<float> one(2 * 64);
  KeyCodes<4>::scan({q.data(), 2, 64}, groups.data() + 2 * bytes, one.data(), 64);
  CHECK(std::equal(one.begin(), one.begin() + 64, logits.begin() + 128));
  CHECK(std::equal(one.begin() + 64, one.end(), logits.begin() + 328));
  auto const scan = [&](int heads, int dim, std::size_t size, std::size_t stride) {
    kvfreeze::host::digest_scan<KeyCodes<4>>({q.data(), heads, dim}, groups,
                                             std::span(logits).first(size), stride);
  };
  CHECK_THROWS_AS(scan(2, 64, 391, 200), kvfreeze::InvalidArgument);
  CHECK_NOTHROW(scan(2, 64, 392, 200));
  CHECK_THROWS_AS(scan(2, 64, 400, 191), kvfreeze::InvalidArgument);
  CHECK_THROWS_AS(scan(0, 64, 400, 200), kvfreeze::InvalidArgument);
  CHECK_THROWS_AS(scan(2, 60, 400, 200), kvfreeze::InvalidArgument);
  CHECK_THROWS_AS(scan(1, 128, 400, 200), kvfreeze::InvalidArgument);
}
