#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace llama {

namespace {

double ratio(double part, double whole) { return whole > 0.0 ? part / whole : 0.0; }

double ratio(std::uint64_t part, std::uint64_t whole) {
  return ratio(static_cast<double>(part), static_cast<double>(whole));
}

/// Sums of consecutive places, and how many there are in each.
struct Blocks {
  std::vector<double> sums;
  std::vector<double> counts;
};

Blocks sum_blocks(std::span<double const> values, std::size_t block) {
  Blocks blocks;
  for (std::size_t at = 0; at < values.size(); at += block) {
    auto const part = values.subspan(at, std::min(block, values.size() - at));
    blocks.sums.push_back(std::accumulate(part.begin(), part.end(), 0.0));
    blocks.counts.push_back(static_cast<double>(part.size()));
  }
  return blocks;
}

/// Draws blocks with replacement, many times, and takes the middle 95 % of the quotients of sums.
Interval bootstrap(std::vector<double> const& numerators, std::vector<double> const& denominators) {
  constexpr std::size_t draws = 2000;
  std::size_t const blocks = numerators.size();
  if (blocks < 4) {
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    return {unknown, unknown};
  }
  std::mt19937 random(1);
  std::vector<double> quotients;
  for (std::size_t i = 0; i < draws; ++i) {
    double above = 0.0;
    double below = 0.0;
    for (std::size_t j = 0; j < blocks; ++j) {
      std::size_t const drawn = random() % blocks;
      above += numerators[drawn];
      below += denominators[drawn];
    }
    quotients.push_back(ratio(above, below));
  }
  return {percentile(quotients, 0.025), percentile(quotients, 0.975)};
}

}  // namespace

RunSummary summarise(std::span<Step const> steps) {
  RunSummary s;
  double prefill_tokens = 0.0;
  double prefill_seconds = 0.0;
  double decode_seconds = 0.0;
  double attend_seconds = 0.0;
  double advance_seconds = 0.0;
  double decode_tokens = 0.0;
  for (Step const& step : steps) {
    kvfreeze::StepReport const& r = step.report;
    s.resident_bytes_peak = std::max(s.resident_bytes_peak, r.ledger.resident());
    s.recoveries[static_cast<std::size_t>(r.recovery)] += 1;
    if (step.kind == StepKind::prefill) {
      prefill_tokens += step.gained;
      prefill_seconds += step.seconds;
      continue;
    }
    // A rewind is part of the price of decoding; the tokens that it threw away are not counted.
    decode_tokens += step.gained;
    decode_seconds += step.seconds;
    attend_seconds += step.attend_seconds;
    advance_seconds += step.advance_seconds;
    if (step.kind == StepKind::rewind) {
      continue;
    }
    s.decode_steps += 1;
    double const exact = ratio(r.rows.exact, r.rows.total());
    double const resident = ratio(r.ledger.resident(), r.full_bytes);
    s.exact_fraction_mean += exact;
    s.exact_fraction_peak = std::max(s.exact_fraction_peak, exact);
    s.compact_fraction_mean += ratio(r.rows.compact, r.rows.total());
    s.resident_fraction_mean += resident;
    s.resident_fraction_peak = std::max(s.resident_fraction_peak, resident);
    s.touched_fraction_mean += ratio(r.touched_bytes, r.full_bytes);
    s.moved_bytes_per_step_mean += static_cast<double>(r.moved_in_bytes + r.moved_out_bytes);
    s.thawed_rows_per_step_mean += static_cast<double>(r.thawed_rows);
    s.frozen_rows_per_step_mean += static_cast<double>(r.frozen_rows);
    s.deferred_rows_per_step_mean += static_cast<double>(r.deferred_rows);
    s.missed_mass_mean += static_cast<double>(r.missed_mass);
  }
  auto const n = static_cast<double>(std::max<std::size_t>(s.decode_steps, 1));
  for (double* const mean :
       {&s.exact_fraction_mean, &s.compact_fraction_mean, &s.resident_fraction_mean,
        &s.touched_fraction_mean, &s.moved_bytes_per_step_mean, &s.thawed_rows_per_step_mean,
        &s.frozen_rows_per_step_mean, &s.deferred_rows_per_step_mean, &s.missed_mass_mean}) {
    *mean /= n;
  }
  if (!steps.empty()) {
    kvfreeze::StepReport const& last = steps.back().report;
    s.rows = last.rows;
    s.ledger = last.ledger;
    s.full_bytes = last.full_bytes;
  }
  s.prefill_tokens_per_second = ratio(prefill_tokens, prefill_seconds);
  s.decode_tokens_per_second = ratio(decode_tokens, decode_seconds);
  s.attend_seconds_per_token = attend_seconds / n;
  s.advance_seconds_per_token = advance_seconds / n;
  return s;
}

void put_figures(Json& json, RunSummary const& s) {
  json.put("prefill_tokens_per_second", s.prefill_tokens_per_second);
  json.put("decode_tokens_per_second", s.decode_tokens_per_second);
  json.put("decode_steps", s.decode_steps);
  json.put("rows_exact", s.rows.exact);
  json.put("rows_compact", s.rows.compact);
  json.put("rows_frozen", s.rows.frozen);
  json.put("rows_asleep", s.rows.asleep);
  json.put("rows_evicted", s.rows.evicted);
  json.put("exact_fraction_mean", s.exact_fraction_mean);
  json.put("exact_fraction_peak", s.exact_fraction_peak);
  json.put("compact_fraction_mean", s.compact_fraction_mean);
  json.put("resident_fraction_mean", s.resident_fraction_mean);
  json.put("resident_fraction_peak", s.resident_fraction_peak);
  json.put("touched_fraction_mean", s.touched_fraction_mean);
  json.put("resident_bytes_peak", s.resident_bytes_peak);
  json.put("resident_bytes_end", s.ledger.resident());
  json.put("row_bytes_end", s.ledger.rows);
  json.put("digest_bytes_end", s.ledger.digests);
  json.put("code_bytes_end", s.ledger.codes);
  json.put("metadata_bytes_end", s.ledger.metadata);
  json.put("scratch_bytes_end", s.ledger.scratch);
  json.put("tier_bytes_end", s.ledger.tier);
  json.put("full_bytes_end", s.full_bytes);
  json.put("moved_bytes_per_step_mean", s.moved_bytes_per_step_mean);
  json.put("thawed_rows_per_step_mean", s.thawed_rows_per_step_mean);
  json.put("frozen_rows_per_step_mean", s.frozen_rows_per_step_mean);
  json.put("deferred_rows_per_step_mean", s.deferred_rows_per_step_mean);
  json.put("missed_mass_mean", s.missed_mass_mean);
  json.put("recoveries_sr", s.recoveries[static_cast<std::size_t>(kvfreeze::Recovery::soft)]);
  json.put("recoveries_wr", s.recoveries[static_cast<std::size_t>(kvfreeze::Recovery::window)]);
  json.put("recoveries_fr", s.recoveries[static_cast<std::size_t>(kvfreeze::Recovery::full)]);
  json.put("recoveries_rr", s.recoveries[static_cast<std::size_t>(kvfreeze::Recovery::rewalk)]);
  json.put("attend_seconds_per_token", s.attend_seconds_per_token);
  json.put("advance_seconds_per_token", s.advance_seconds_per_token);
}

double median(std::vector<double> values) {
  if (values.empty()) {
    return 0.0;
  }
  std::sort(values.begin(), values.end());
  std::size_t const middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) {
    return 0.0;
  }
  auto const count = static_cast<double>(values.size());
  auto const rank = static_cast<std::size_t>(std::max(std::ceil(share * count - 1e-9), 1.0)) - 1;
  auto const place = values.begin() + static_cast<std::ptrdiff_t>(rank);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

Interval bootstrap_mean(std::span<double const> values, std::size_t block) {
  Blocks const blocks = sum_blocks(values, block);
  return bootstrap(blocks.sums, blocks.counts);
}

Interval bootstrap_ratio(std::span<double const> values, std::span<double const> others,
                         std::size_t block) {
  return bootstrap(sum_blocks(values, block).sums, sum_blocks(others, block).sums);
}

std::vector<std::size_t> pareto_front(std::span<Cost const> points) {
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return points[a].x != points[b].x ? points[a].x < points[b].x : points[a].y < points[b].y;
  });
  std::vector<std::size_t> front;
  for (std::size_t const i : order) {
    if (front.empty() || points[i].y < points[front.back()].y) {
      front.push_back(i);
    }
  }
  return front;
}

}  // namespace llama
