#include <kvfreeze/host/kernels/mass_threshold.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace host = kvfreeze::host;
using host::LogHistogram;
using host::LogitRun;
using host::Mass;

namespace {

constexpr std::uint32_t everything = std::numeric_limits<std::uint32_t>::max();

std::vector<Mass> spread_masses(std::size_t n, unsigned seed, std::uint32_t highest) {
  std::mt19937 random(seed);
  std::vector<Mass> out(n);
  for (Mass& x : out) {
    x = (static_cast<std::uint32_t>(random()) >> 1 >> (random() % 31)) % highest;
  }
  return out;
}

std::vector<LogitRun> runs_of(std::vector<Mass>& masses, std::vector<std::size_t> const& cuts) {
  std::vector<LogitRun> runs;
  std::size_t first = 0;
  for (std::size_t i = 0; i <= cuts.size(); ++i) {
    std::size_t const last = i < cuts.size() ? std::min(cuts[i], masses.size()) : masses.size();
    LogitRun run;
    run.rows = static_cast<int>(last - first);
    run.masses = masses.data() + first;
    runs.push_back(run);
    first = last;
  }
  return runs;
}

std::uint32_t by_histogram(std::vector<Mass> const& masses, Mass epsilon) {
  LogHistogram histogram;
  histogram.add(masses.data(), nullptr, masses.size());
  int const bin = histogram.all_but(epsilon).bin;
  return bin < LogHistogram::bins ? host::log_bin_floor(bin) : everything;
}

void check(std::vector<Mass> masses, Mass epsilon) {
  CAPTURE(masses.size(), epsilon);
  std::uint32_t const expected = by_histogram(masses, epsilon);
  auto const one = runs_of(masses, {});
  auto const several = runs_of(masses, {1, 16, 16, 45, 700});
  std::vector<std::uint32_t> guesses = {0,        1,        5,        16,        1000,
                                        1U << 20, 1U << 30, 1U << 31, everything};
  for (int bin = host::log_bin(expected) - 4; bin <= host::log_bin(expected) + 4; ++bin) {
    guesses.push_back(host::log_bin_floor(std::clamp(bin, 0, 239)));
  }
  for (std::uint32_t const guess : guesses) {
    CAPTURE(guess);
    REQUIRE(host::mass_threshold(one, epsilon, guess) == expected);
    REQUIRE(host::mass_threshold(several, epsilon, guess) == expected);
  }
}

std::vector<Mass> const epsilons = {0,
                                    1,
                                    2,
                                    7,
                                    15,
                                    16,
                                    17,
                                    100,
                                    4096,
                                    1U << 20,
                                    1U << 24,
                                    1U << 26,
                                    1U << 29,
                                    1U << 30,
                                    (1U << 30) + 5,
                                    (1U << 31) - 2,
                                    (1U << 31) - 1,
                                    1U << 31,
                                    everything};

}  // namespace

TEST_CASE("The threshold is that of the histogram, whatever the guess") {
  for (std::uint32_t const highest :
       {2U, 20U, 100U, 1U << 12, 1U << 20, 1U << 30, (1U << 31) - 1}) {
    for (std::size_t const n : {1U, 15U, 16U, 17U, 100U, 1000U, 3000U}) {
      auto const masses = spread_masses(n, static_cast<unsigned>(n), highest);
      for (Mass const epsilon : epsilons) {
        check(masses, epsilon);
      }
    }
  }
}

TEST_CASE("The threshold of every budget of few masses") {
  std::vector<Mass> masses = {0, 0, 1, 1, 3, 8, 9, 15, 16, 17, 18, 31, 32, 70, 70, 90};
  for (Mass epsilon = 0; epsilon < 400; ++epsilon) {
    check(masses, epsilon);
  }
}

TEST_CASE("The threshold of adversarial masses") {
  constexpr Mass largest = (1U << 31) - 1;
  for (Mass const epsilon : epsilons) {
    check({}, epsilon);
    check(std::vector<Mass>(1000, 0), epsilon);
    check({0}, epsilon);
    check({1U << 30}, epsilon);
    for (Mass const value : {1U, 15U, 16U, 17U, 4096U, 1U << 20, (1U << 20) + 1, 1U << 30}) {
      check(std::vector<Mass>(1000, value), epsilon);
    }
    check(std::vector<Mass>(5000, largest), epsilon);
    if (epsilon < largest) {
      check({epsilon / 2, epsilon - epsilon / 2}, epsilon);
      check({epsilon, epsilon + 1}, epsilon);
      check({epsilon, 1}, epsilon);
      check({0, epsilon + 1}, epsilon);
      check({largest, epsilon}, epsilon);
    }
  }
}

TEST_CASE("Listed are the rows that take part from the threshold on") {
  for (std::size_t const n : {0U, 1U, 15U, 16U, 17U, 64U, 1000U}) {
    auto const masses = spread_masses(n, 5, 1U << 30);
    std::mt19937 random(6);
    std::vector<std::uint8_t> states(n);
    for (auto& state : states) {
      state = static_cast<std::uint8_t>(random() % 2 != 0 ? 2U + (random() & 0xF8U) : random());
    }
    for (std::uint32_t const threshold :
         {0U, 1U, 2U, 100U, 1U << 20, 1U << 30, 1U << 31, everything}) {
      for (auto const* some : {static_cast<std::uint8_t const*>(nullptr),
                               static_cast<std::uint8_t const*>(states.data())}) {
        std::vector<std::uint32_t> expected;
        for (std::size_t i = 0; i < n; ++i) {
          if (masses[i] >= threshold && (some == nullptr || (states[i] & 7) == 2)) {
            expected.push_back(static_cast<std::uint32_t>(i));
          }
        }
        std::vector<std::uint32_t> list(n + 1, 99U);
        int const count =
            host::list_at_least(masses.data(), some, static_cast<int>(n), threshold, list.data());
        REQUIRE(list.back() == 99U);
        list.resize(static_cast<std::size_t>(count));
        REQUIRE(list == expected);
      }
    }
  }
}
