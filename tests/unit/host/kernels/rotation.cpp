#include <kvfreeze/host/kernels/rotation.hpp>

#include "attention_data.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstddef>
#include <vector>

namespace host = kvfreeze::host;

namespace {

/// Channels of the block that channel c is in, and where that begins.
std::pair<int, int> block_of(int c, int dim) {
  int begin = 0;
  for (int const size : {64, 32, 16, 8}) {
    while (dim - begin >= size) {
      if (c < begin + size) {
        return {begin, size};
      }
      begin += size;
      if (size < 64) {
        break;
      }
    }
  }
  return {begin, 8};
}

}  // namespace

TEST_CASE("The rotation is the Hadamard matrix of each block") {
  for (int dim = 8; dim <= 512; dim += 8) {
    CAPTURE(dim);
    auto const v = normal_numbers(static_cast<std::size_t>(dim), static_cast<unsigned>(dim));
    auto rotated = v;
    rotated.push_back(-7.0F);
    host::rotate(rotated.data(), dim);
    REQUIRE(rotated.back() == -7.0F);
    for (int c = 0; c < dim; ++c) {
      auto const [begin, size] = block_of(c, dim);
      double expected = 0.0;
      for (int i = 0; i < size; ++i) {
        int sign = 0;
        for (int bits = (c - begin) & i; bits != 0; bits &= bits - 1) {
          sign ^= 1;
        }
        double const x = static_cast<double>(v[static_cast<std::size_t>(begin + i)]);
        expected += (sign != 0 ? -x : x) / std::sqrt(size);
      }
      double const got = static_cast<double>(rotated[static_cast<std::size_t>(c)]);
      double const whole =
          size == 8 ? static_cast<double>(v[static_cast<std::size_t>(c)]) : expected;
      REQUIRE(got == Approx(whole).margin(1e-5));
    }
  }
}

TEST_CASE("The rotation keeps lengths and is its own inverse") {
  for (int dim = 8; dim <= 512; dim += 8) {
    CAPTURE(dim);
    auto const v = normal_numbers(static_cast<std::size_t>(dim), 3, 2.0F);
    auto twice = v;
    host::rotate(twice.data(), dim);
    double before = 0.0;
    double after = 0.0;
    for (std::size_t i = 0; i < v.size(); ++i) {
      before += static_cast<double>(v[i]) * static_cast<double>(v[i]);
      after += static_cast<double>(twice[i]) * static_cast<double>(twice[i]);
    }
    REQUIRE(after == Approx(before).epsilon(1e-5));
    host::rotate(twice.data(), dim);
    for (std::size_t i = 0; i < v.size(); ++i) {
      REQUIRE(twice[i] == Approx(v[i]).margin(1e-5));
    }
  }
}

TEST_CASE("The rotation spreads an outlier over its block") {
  std::vector<float> v(64);
  v[5] = 8.0F;
  host::rotate(v.data(), 64);
  for (float const x : v) {
    REQUIRE(std::fabs(x) == 1.0F);
  }
}

TEST_CASE("Vectors are subtracted and added scaled, channel by channel") {
  for (int dim = 8; dim <= 264; dim += 8) {
    auto const a = normal_numbers(static_cast<std::size_t>(dim) + 1, 1);
    auto const b = normal_numbers(static_cast<std::size_t>(dim) + 1, 2);
    auto difference = a;
    auto sum = a;
    host::subtract(difference.data(), b.data(), dim);
    host::add_scaled(sum.data(), 0.3F, b.data(), dim);
    for (std::size_t i = 0; i < a.size(); ++i) {
      bool const within = i + 1 < a.size();
      REQUIRE(difference[i] == (within ? a[i] - b[i] : a[i]));
      REQUIRE(sum[i] == (within ? std::fma(0.3F, b[i], a[i]) : a[i]));
    }
  }
}
