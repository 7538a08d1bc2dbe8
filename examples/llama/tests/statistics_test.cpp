#include "statistics.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <vector>

using namespace llama;

namespace {

Step make_step(StepKind kind, int gained, std::uint64_t exact, std::size_t resident) {
  Step step;
  step.kind = kind;
  step.gained = gained;
  step.seconds = 0.5;
  step.report.rows = {
      .exact = exact, .compact = 0, .frozen = 10 - exact, .asleep = 0, .evicted = 0};
  step.report.ledger.rows = resident;
  step.report.full_bytes = 1000;
  return step;
}

}  // namespace

TEST_CASE("means are over decode steps, the byte peak over all") {
  std::vector<Step> const steps{make_step(StepKind::prefill, 100, 10, 900),
                                make_step(StepKind::decode, 1, 4, 400),
                                make_step(StepKind::decode, 1, 6, 600)};
  RunSummary const s = summarise(steps);
  CHECK(s.decode_steps == 2);
  CHECK(s.exact_fraction_mean == Approx(0.5));
  CHECK(s.resident_fraction_mean == Approx(0.5));
  CHECK(s.resident_fraction_peak == Approx(0.6));
  CHECK(s.resident_bytes_peak == 900);
  CHECK(s.prefill_tokens_per_second == Approx(200.0));
  CHECK(s.decode_tokens_per_second == Approx(2.0));
}

TEST_CASE("tokens that a rewind took back are not counted as speed") {
  std::vector<Step> steps(10, make_step(StepKind::decode, 1, 5, 500));
  steps.push_back(make_step(StepKind::rewind, -4, 10, 1000));
  CHECK(summarise(steps).decode_tokens_per_second == Approx(6.0 / 5.5));
}

TEST_CASE("nothing is summarised as zeros") {
  RunSummary const s = summarise(std::vector<Step>{});
  CHECK(s.decode_tokens_per_second == 0.0);
  CHECK(s.resident_fraction_mean == 0.0);
}

TEST_CASE("medians") {
  CHECK(median({3.0, 1.0, 2.0}) == 2.0);
  CHECK(median({4.0, 1.0, 2.0, 3.0}) == 2.5);
  CHECK(median({}) == 0.0);
}

TEST_CASE("percentiles") {
  std::vector<double> values;
  for (int i = 100; i > 0; --i) {
    values.push_back(i);
  }
  CHECK(percentile(values, 0.99) == 99.0);
  CHECK(percentile(values, 1.0) == 100.0);
  CHECK(percentile(values, 0.0) == 1.0);
  CHECK(percentile({7.0}, 0.5) == 7.0);
  CHECK(percentile({}, 0.5) == 0.0);
}

TEST_CASE("a bootstrap interval holds the mean and narrows with the number of blocks") {
  auto const wave = [](std::size_t count) {
    std::vector<double> values;
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(1.0 + static_cast<double>(i * 7919 % 101) / 100.0);
    }
    return values;
  };
  Interval const wide = bootstrap_mean(wave(80), 8);
  Interval const narrow = bootstrap_mean(wave(8000), 8);
  CHECK(wide.low < 1.5);
  CHECK(wide.high > 1.5);
  CHECK(narrow.low < 1.5);
  CHECK(narrow.high > 1.5);
  CHECK(narrow.high - narrow.low < wide.high - wide.low);
  CHECK(bootstrap_mean(wave(80), 8).low == wide.low);  // the same on every run
  CHECK(std::isnan(bootstrap_mean(wave(20), 8).low));  // three blocks tell nothing
}

TEST_CASE("a ratio of paired values has no width where they are proportional") {
  std::vector<double> const base{1.0, 5.0, 2.0, 9.0, 4.0, 4.0, 7.0, 1.0};
  std::vector<double> half;
  for (double const x : base) {
    half.push_back(0.5 * x);
  }
  Interval const ratio = bootstrap_ratio(half, base, 1);
  CHECK(ratio.low == Approx(0.5));
  CHECK(ratio.high == Approx(0.5));
}

TEST_CASE("the Pareto front is what nothing beats") {
  std::vector<Cost> const points{{3.0, 1.0}, {1.0, 3.0}, {2.0, 2.0},
                                 {2.0, 2.5}, {3.0, 0.5}, {4.0, 0.5}};
  CHECK(pareto_front(points) == std::vector<std::size_t>{1, 2, 4});
  CHECK(pareto_front(std::vector<Cost>{}).empty());
}
