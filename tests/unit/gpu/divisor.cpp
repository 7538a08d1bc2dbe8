#include <kvfreeze/gpu/divisor.cuh>

#include <catch2/catch.hpp>

#include <cstdint>
#include <random>

namespace kvfreeze::gpu {
namespace {

void check(std::uint32_t n, std::uint32_t value) {
  Divisor const divisor = value;
  CAPTURE(n, value);
  REQUIRE(n / divisor == n / value);
  REQUIRE(n % divisor == n % value);
}

constexpr std::uint32_t most = 0x7FFFFFFF;

TEST_CASE("A divisor's quotients are those of a division") {
  SECTION("near the multiples of small numbers, and at the end of the range") {
    for (std::uint32_t value = 1; value <= 600; ++value) {
      for (std::uint32_t const n : {0U, value - 1, value, value + 1, 1000 * value - 1, 1000 * value,
                                    most / value * value - 1, most / value * value, most}) {
        check(n, value);
      }
    }
  }
  SECTION("of large numbers") {
    for (std::uint32_t const value :
         {1U << 30U, (1U << 30U) + 1, (1U << 30U) - 1, most, most - 1, 1U << 31U}) {
      for (std::uint32_t const n : {0U, 1U, most / 2, (1U << 30U) - 1, 1U << 30U, most - 1, most}) {
        check(n, value);
      }
    }
  }
  SECTION("of any numbers") {
    std::mt19937 random(1);
    std::uniform_int_distribution<std::uint32_t> numbers(0, most);
    for (int i = 0; i < 20000; ++i) {
      check(numbers(random), (numbers(random) >> numbers(random) % 31) + 1);
    }
  }
}

static_assert(100U / Divisor(7) == 14 && 100U % Divisor(7) == 2);

}  // namespace
}  // namespace kvfreeze::gpu
