#include <kvfreeze/host/kernels/histogram.hpp>

#include <catch2/catch.hpp>

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace host = kvfreeze::host;
using host::BinCutoff;
using host::LogHistogram;

namespace {

std::vector<std::uint32_t> spread_values(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::uint32_t> out(n);
  for (auto& x : out) {
    x = static_cast<std::uint32_t>(random()) >> (random() % 32);
  }
  return out;
}

LogHistogram histogram_of(std::vector<std::uint32_t> const& values) {
  LogHistogram h;
  h.add(values.data(), nullptr, values.size());
  return h;
}

}  // namespace

TEST_CASE("Bins are ordered, exact below 16 and eight to the octave") {
  for (std::uint32_t x = 0; x < 16; ++x) {
    CHECK(host::log_bin(x) == static_cast<int>(x));
  }
  CHECK(host::log_bin(std::numeric_limits<std::uint32_t>::max()) == 239);
  for (int b = 0; b < 240; ++b) {
    std::uint32_t const first = host::log_bin_floor(b);
    CHECK(host::log_bin(first) == b);
    if (b > 0) {
      CHECK(host::log_bin(first - 1) == b - 1);
    }
  }
}

TEST_CASE("A histogram counts and sums its candidates") {
  for (std::size_t const n : {0U, 1U, 3U, 4U, 5U, 1000U, 300000U}) {
    auto const values = spread_values(n, 1);
    std::vector<std::uint8_t> mask(n);
    for (std::size_t i = 0; i < n; ++i) {
      mask[i] = static_cast<std::uint8_t>(i % 3);
    }
    for (auto const* candidates : {static_cast<std::uint8_t const*>(nullptr),
                                   static_cast<std::uint8_t const*>(mask.data())}) {
      LogHistogram h;
      h.add(values.data(), candidates, n);
      std::vector<std::uint64_t> sums(256);
      std::vector<std::uint32_t> counts(256);
      for (std::size_t i = 0; i < n; ++i) {
        if (candidates == nullptr || candidates[i] != 0) {
          sums[static_cast<std::size_t>(host::log_bin(values[i]))] += values[i];
          ++counts[static_cast<std::size_t>(host::log_bin(values[i]))];
        }
      }
      CHECK(std::vector<std::uint64_t>(h.sums, h.sums + 256) == sums);
      CHECK(std::vector<std::uint32_t>(h.counts, h.counts + 256) == counts);
    }
  }
}

TEST_CASE("A histogram of many equal large values does not overflow") {
  std::vector<std::uint32_t> const values(70000 * 4, 0xFFFFFFFFU);
  auto h = histogram_of(values);
  CHECK(h.total_count() == 280000);
  CHECK(h.total_sum() == 280000ULL * 0xFFFFFFFFULL);
  h.merge(h);
  CHECK(h.total_count() == 560000);
  h.clear();
  CHECK(h.total_count() == 0);
}

TEST_CASE("all_but leaves out the largest set of lowest bins within the budget") {
  auto const values = spread_values(2000, 3);
  auto const h = histogram_of(values);
  std::vector<std::uint8_t> wanted(values.size());
  for (std::uint64_t budget = 0; budget <= h.total_sum(); budget = budget * 3 + 1) {
    BinCutoff const cutoff = h.all_but(budget);
    host::apply_cutoff(cutoff, values.data(), nullptr, values.size(), wanted.data());
    std::uint64_t left_out = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      left_out += wanted[i] == 0 ? values[i] : 0U;
    }
    CHECK(left_out <= budget);
    CHECK(left_out + h.sums[cutoff.bin] > budget);
  }
  CHECK(host::apply_cutoff(h.all_but(h.total_sum()), values.data(), nullptr, values.size(),
                           wanted.data()) == 0);
}

TEST_CASE("highest wants exactly k, the older first within a bin") {
  auto const values = spread_values(500, 4);
  std::vector<std::uint8_t> mask(500);
  std::uint32_t candidates = 0;
  for (std::size_t i = 0; i < 500; ++i) {
    mask[i] = i % 4 != 0 ? 1 : 0;
    candidates += mask[i];
  }
  LogHistogram h;
  h.add(values.data(), mask.data(), values.size());
  std::vector<std::uint8_t> wanted(500);
  for (std::uint32_t k = 0; k < 510; ++k) {
    BinCutoff const cutoff = h.highest(k);
    auto const n = host::apply_cutoff(cutoff, values.data(), mask.data(), 500, wanted.data());
    REQUIRE(n == std::min(k, candidates));
    bool refused = false;
    for (std::size_t i = 0; i < 500; ++i) {
      bool const inside = mask[i] != 0 && host::log_bin(values[i]) == cutoff.bin;
      REQUIRE_FALSE((inside && refused && wanted[i] != 0));
      refused = refused || (inside && wanted[i] == 0);
      REQUIRE_FALSE((mask[i] == 0 && wanted[i] != 0));
    }
  }
}

TEST_CASE("above_quantile starts at the bin of the order statistic") {
  std::vector<std::uint32_t> const values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  auto const h = histogram_of(values);
  CHECK(h.above_quantile(0.0F).bin == 1);
  CHECK(h.above_quantile(0.5F).bin == 5);
  CHECK(h.above_quantile(1.0F).bin == 10);
  CHECK(LogHistogram{}.above_quantile(0.5F) == BinCutoff{256, 0});
  CHECK(LogHistogram::above(9).bin == 9);
}
