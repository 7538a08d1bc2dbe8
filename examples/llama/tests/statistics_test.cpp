#include "statistics.hpp"

#include <catch2/catch.hpp>

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
