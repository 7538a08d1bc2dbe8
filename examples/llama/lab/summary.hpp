#pragma once

#include "../statistics.hpp"
#include "grid.hpp"
#include "json_object.hpp"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama::lab {

enum class CellStatus { measured, unreachable, failed };

/// What the figures of a report are about: one task at one context. For kl and stress, on one
/// text; the answers of the other tasks are summed over texts.
struct Scope {
  std::string task;
  std::string variant;  ///< of stress only
  int context = 0;
  std::string text;   ///< empty: all texts
  std::string setup;  ///< model, weights, chunk, threads and version, where there are several

  friend bool operator==(Scope const&, Scope const&) = default;
};

/// A question's place, and the answers.
struct Answers {
  std::string place;  ///< "30 %", "2 hops"
  int right = 0;
  int wanted = 0;
};

/// @brief Names each cell's composition: the preset as given; with all of its settings where the
/// results have one preset with different ones.
class Labels {
 public:
  explicit Labels(std::span<JsonObject const> cells);

  [[nodiscard]] std::string of(JsonObject const& cell) const;

  /// All of them, in the order of their first cells.
  [[nodiscard]] std::vector<std::string> all(std::span<JsonObject const> cells) const;

 private:
  std::vector<std::string> ambiguous_;
};

/// @brief One composition at one size: all pieces and trials of a scope put together. Means of
/// cells are weighted by their positions or steps.
struct Point {
  std::string preset;
  Fraction fraction;
  CellStatus status = CellStatus::measured;
  std::string reason;                    ///< of a cell that was not measured
  std::optional<double> least_fraction;  ///< that an unreachable cell would need
  std::size_t cells = 0;
  std::size_t positions = 0;  ///< compared with the plain cache's; 0 where there are answers only
  double kl_mean = 0.0;       ///< nats
  Interval kl{0.0, 0.0};
  double kl_p99 = 0.0;
  double perplexity_ratio = 0.0;
  double top1_agreement = 0.0;
  double resident_mean = 0.0;  ///< of a 16-bit cache of the whole context
  double resident_peak = 0.0;
  double moved_bytes = 0.0;  ///< a step
  double seconds_per_token = 0.0;
  double attend_seconds = 0.0;   ///< of them
  double advance_seconds = 0.0;  ///< of them
  double recoveries_per_thousand = 0.0;
  std::vector<Answers> answers;
  int retention_layers = 0;
  std::vector<double> retention_exact;  ///< by layer, then lane
  std::vector<double> retention_compact;

  [[nodiscard]] Answers all_answers() const;
};

/// @brief The scopes of the results, in the order of their first cells.
std::vector<Scope> find_scopes(std::span<JsonObject const> cells);

/// @brief What the results say about a scope; presets in the order of their first cells, fractions
/// rising.
/// @throws JsonError if a cell lacks a figure
std::vector<Point> find_points(std::span<JsonObject const> cells, Scope const& scope);

/// @brief The different values of a member over all cells, in the order of their first cells.
std::vector<std::string> distinct(std::span<JsonObject const> cells, std::string_view member);

/// @brief The fraction that charts of one size are drawn at: the one in the middle.
Fraction middle_fraction(std::span<Point const> points);

/// @brief Points of this size, and of systems that have one operating point only.
std::vector<Point> points_at(std::span<Point const> points, Fraction const& fraction);

}  // namespace llama::lab
