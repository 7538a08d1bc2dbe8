#include <kvfreeze/host/kernels/value_codes.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace host = kvfreeze::host;

namespace {

/// The code of one channel, as the format has it.
template <int Bits>
int code_of(std::byte const* row, int channel) {
  int const lane = channel % 16;
  int const v = channel % 64 / 16;
  std::byte const* const p =
      row + host::value_code_bytes<Bits>(64) * static_cast<std::size_t>(channel / 64);
  if constexpr (Bits == 2) {
    return (std::to_integer<int>(p[lane]) >> (2 * v)) & 3;
  } else if constexpr (Bits == 4) {
    int const word = std::to_integer<int>(p[2 * lane]) | std::to_integer<int>(p[2 * lane + 1]) << 8;
    return (word >> (4 * v)) & 15;
  } else {
    return static_cast<std::int8_t>(std::to_integer<int>(p[4 * lane + v]));
  }
}

template <int Bits>
float level_of(int code) {
  if constexpr (Bits == 8) {
    return static_cast<float>(code);
  } else {
    return host::ValueLevels<Bits>::levels[static_cast<std::size_t>(code)];
  }
}

template <int Bits>
void check_row(std::vector<float> const& v) {
  int const dim = static_cast<int>(v.size());
  CAPTURE(Bits, dim);
  std::size_t const bytes = host::value_code_bytes<Bits>(dim);
  CHECK(bytes == static_cast<std::size_t>((dim + 63) / 64 * 8 * Bits));
  std::vector<std::byte> codes(bytes + 8, std::byte{0xA5});
  kvfreeze::BFloat16 const scale = host::encode_values<Bits>(v.data(), dim, codes.data());
  CHECK(codes[bytes] == std::byte{0xA5});
  double most = 0.0;
  for (float const x : v) {
    most = std::max(most, std::fabs(static_cast<double>(x)));
  }
  float const factor = kvfreeze::to_float(scale);
  CHECK(static_cast<double>(factor) == Approx(Bits == 8 ? most / 127.0 : most).epsilon(0x1p-8));
  std::vector<float> decoded(v.size() + 1, -7.0F);
  host::decode_values<Bits>(codes.data(), scale, dim, decoded.data());
  REQUIRE(decoded.back() == -7.0F);
  for (int c = 0; c < dim; ++c) {
    auto const i = static_cast<std::size_t>(c);
    float const x = factor == 0.0F ? 0.0F : v[i] * (1.0F / factor);
    int expected = 0;
    if constexpr (Bits == 8) {
      expected = static_cast<int>(std::nearbyint(std::clamp(x, -127.0F, 127.0F)));
    } else {
      for (float const threshold : host::ValueLevels<Bits>::thresholds) {
        expected += threshold < x ? 1 : 0;
      }
    }
    int const code = code_of<Bits>(codes.data(), c);
    REQUIRE(code == expected);
    REQUIRE(decoded[i] == factor * level_of<Bits>(code));
  }
}

template <int Bits>
void check_sums(int dim, int heads, int count) {
  CAPTURE(Bits, dim, heads, count);
  std::size_t const bytes = host::value_code_bytes<Bits>(dim);
  std::size_t const block_bytes = 16 * (bytes + 16) + 32 + 64;
  std::vector<std::byte> pool(static_cast<std::size_t>((count + 15) / 16) * block_bytes);
  host::CodeRows const codes{pool.data(), block_bytes, bytes + 16};
  host::CodeRows const scales{pool.data() + 16 * (bytes + 16), block_bytes, 2};
  std::vector<float> factors;
  for (int i = 0; i < count; ++i) {
    auto const v = normal_numbers(static_cast<std::size_t>(dim), static_cast<unsigned>(i));
    kvfreeze::BFloat16 const scale =
        host::encode_values<Bits>(v.data(), dim, const_cast<std::byte*>(codes.row(i)));
    std::memcpy(const_cast<std::byte*>(scales.row(i)), &scale, sizeof scale);
    factors.push_back(kvfreeze::to_float(scale));
  }
  int const stride = count + 5;
  auto weights = normal_numbers(static_cast<std::size_t>(heads * stride), 3);
  auto const before = weights;
  auto out = normal_numbers(static_cast<std::size_t>(heads * dim) + 1, 4);
  auto expected = out;
  host::accumulate_values<Bits>(codes, scales, count, weights.data(), stride, heads, dim,
                                out.data());
  for (int h = 0; h < heads; ++h) {
    for (int i = 0; i < stride; ++i) {
      auto const at = static_cast<std::size_t>(h * stride + i);
      float const weight =
          i < count ? before[at] * factors[static_cast<std::size_t>(i)] : before[at];
      REQUIRE(weights[at] == weight);
      if (i < count) {
        for (int d = 0; d < dim; ++d) {
          float& total = expected[static_cast<std::size_t>(h * dim + d)];
          total = std::fma(weight, level_of<Bits>(code_of<Bits>(codes.row(i), d)), total);
        }
      }
    }
  }
  REQUIRE(out == expected);
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("Value codes are the scalar formula", "", ((int Bits), Bits), 2, 4, 8) {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    for (float const sigma : {1.0F, 1e-20F, 1e30F}) {
      auto v = normal_numbers(static_cast<std::size_t>(dim), static_cast<unsigned>(dim), sigma);
      v[1] = 0.0F;
      v[2] = -0.0F;
      v[3] *= 8.0F;
      check_row<Bits>(v);
    }
    check_row<Bits>(std::vector<float>(static_cast<std::size_t>(dim), 0.0F));
  }
}

TEMPLATE_TEST_CASE_SIG("Value codes of extreme rows stay finite", "", ((int Bits), Bits), 2, 4, 8) {
  for (float const x : {0x1p-149F, 0x1p-130F, 0x1p-126F, 0x1p120F}) {
    std::vector<float> v(64, x);
    std::vector<std::byte> codes(host::value_code_bytes<Bits>(64));
    auto const scale = host::encode_values<Bits>(v.data(), 64, codes.data());
    host::decode_values<Bits>(codes.data(), scale, 64, v.data());
    for (float const y : v) {
      REQUIRE(std::fabs(y - x) <= 0.55F * x + 0x1p-118F);
    }
  }
}

TEST_CASE("Codes of 2 bits are the upper bits of those of 4") {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    auto const v = normal_numbers(static_cast<std::size_t>(dim), 8);
    std::vector<std::byte> four(host::value_code_bytes<4>(dim));
    std::vector<std::byte> two(host::value_code_bytes<2>(dim));
    auto const scale = host::encode_values<4>(v.data(), dim, four.data());
    CHECK(scale == host::encode_values<2>(v.data(), dim, two.data()));
    host::truncate_codes(four.data(), dim, four.data());
    for (int c = 0; c < dim; ++c) {
      REQUIRE(code_of<2>(four.data(), c) == code_of<2>(two.data(), c));
    }
  }
}

TEMPLATE_TEST_CASE_SIG("Values are added up row by row", "", ((int Bits), Bits), 2, 4, 8) {
  for (int const dim : {8, 40, 64, 96, 128, 256}) {
    for (int const heads : {1, 3, 5}) {
      for (int const count : {1, 15, 16, 53, 150}) {
        check_sums<Bits>(dim, heads, count);
      }
    }
  }
}

TEST_CASE("More bits are nearer") {
  auto const v = normal_numbers(4096, 12);
  auto const error = [&](auto bits) {
    std::vector<std::byte> codes(host::value_code_bytes<bits()>(64));
    std::vector<float> decoded(64);
    double total = 0.0;
    for (std::size_t i = 0; i < v.size(); i += 64) {
      auto const scale = host::encode_values<bits()>(v.data() + i, 64, codes.data());
      host::decode_values<bits()>(codes.data(), scale, 64, decoded.data());
      for (std::size_t j = 0; j < 64; ++j) {
        double const d = static_cast<double>(decoded[j] - v[i + j]);
        total += d * d;
      }
    }
    return total / static_cast<double>(v.size());
  };
  CHECK(error(std::integral_constant<int, 2>{}) < 0.125);
  CHECK(error(std::integral_constant<int, 4>{}) < 0.0125);
  CHECK(error(std::integral_constant<int, 8>{}) < 0.0001);
}
