#pragma once

#include <kvfreeze/report.hpp>
#include <kvfreeze/types.hpp>

#include "json.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace llama {

enum class StepKind {
  prefill,  ///< a chunk of a prompt
  decode,   ///< one token
  rewind,   ///< tokens computed again after a Rewalk Regeneration
};

/// One step of one cache.
struct Step {
  StepKind kind = StepKind::decode;
  int gained = 0;  ///< tokens by which the text grew since the last step; < 0 after a rewind
  kvfreeze::StepReport report;
  double seconds = 0.0;          ///< wall time of everything
  double attend_seconds = 0.0;   ///< of it in the cache's attend()
  double advance_seconds = 0.0;  ///< of it in the cache's advance()
};

/// @brief What the steps of a run come to. Means are over decode steps, peaks over all steps.
struct RunSummary {
  kvfreeze::RowCounts rows;  ///< after the last step
  kvfreeze::Ledger ledger;   ///< after the last step
  std::size_t full_bytes = 0;
  std::size_t decode_steps = 0;
  double exact_fraction_mean = 0.0;
  double exact_fraction_peak = 0.0;  ///< over decode steps
  double compact_fraction_mean = 0.0;
  double resident_fraction_mean = 0.0;
  double resident_fraction_peak = 0.0;  ///< over decode steps
  double touched_fraction_mean = 0.0;
  std::size_t resident_bytes_peak = 0;
  double moved_bytes_per_step_mean = 0.0;
  double thawed_rows_per_step_mean = 0.0;
  double frozen_rows_per_step_mean = 0.0;
  double deferred_rows_per_step_mean = 0.0;
  double missed_mass_mean = 0.0;
  std::array<std::size_t, 5> recoveries{};  ///< by kvfreeze::Recovery
  double prefill_tokens_per_second = 0.0;
  double decode_tokens_per_second = 0.0;
  double attend_seconds_per_token = 0.0;
  double advance_seconds_per_token = 0.0;
};

RunSummary summarise(std::span<Step const> steps);

/// @brief Adds a summary's figures to a flat JSON object.
void put_figures(Json& json, RunSummary const& summary);

/// @brief The middle value; the mean of the two in the middle of an even number.
double median(std::vector<double> values);

/// @brief The smallest value that at least this share of the values does not exceed; 0 of nothing.
double percentile(std::vector<double> values, double share);

/// A range that holds a figure with 95 % confidence; both ends NaN where too little was measured.
struct Interval {
  double low;
  double high;
};

/// Consecutive places that the bootstrap draws together: neighbours in a text are alike.
inline constexpr std::size_t bootstrap_block = 64;

/// @brief Interval of the mean by drawing whole blocks of places anew; the same on every run.
Interval bootstrap_mean(std::span<double const> values, std::size_t block = bootstrap_block);

/// @brief Interval of mean(values) / mean(others), both drawn at the same places.
Interval bootstrap_ratio(std::span<double const> values, std::span<double const> others,
                         std::size_t block = bootstrap_block);

/// A point of which both coordinates are better the lower.
struct Cost {
  double x;
  double y;
};

/// @brief Which points no other beats in both coordinates, from the lowest x on.
std::vector<std::size_t> pareto_front(std::span<Cost const> points);

}  // namespace llama
