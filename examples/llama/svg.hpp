#pragma once

#include "charts.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What charts are put together from.
namespace llama::svg {

// Geometry of every chart, in SVG units.
inline constexpr double width = 960.0;
inline constexpr double left = 72.0;
inline constexpr double right = 16.0;
inline constexpr double top = 10.0;
inline constexpr double bottom = 46.0;

/// With one decimal.
std::string coordinate(double x);

/// 1, 2 or 5 times a power of ten, such that about `count` of them span the range.
double tick_step(double range, double count);

/// A value with the decimals that ticks of this distance need.
std::string tick_text(double value, double step);

/// @param anchor "start", "middle" or "end"
/// @param more attributes, with a blank before
std::string text_element(double x, double y, std::string_view anchor, std::string_view content,
                         std::string_view more = "");

// Styles with a colour of the page's style sheet.
std::string fill_of(std::string_view colour);
std::string stroke_of(std::string_view colour);

/// A name beside a patch of its colour.
struct LegendEntry {
  std::string name;
  std::string colour;
};

/// Title, note and legend above a figure, without the drawing.
std::string open_figure(ChartText const& text, std::span<LegendEntry const> legend);

/// The same and the opened SVG element.
std::string open_chart(ChartText const& text, std::span<LegendEntry const> legend, double height);

std::string close_chart();

/// The names of the axes, of a plot between `svg::left` and `end`.
std::string axis_labels(ChartText const& text, double end, double height);

/// A logarithmic y axis, of the values that it is told of.
class LogAxis {
 public:
  /// @brief Values that are not above 0 have no place.
  void hold(double value);

  /// @brief Call it after all values are known. @param begin, @param end SVG units, from top down
  void place(double begin, double end);

  [[nodiscard]] double y(double value) const;

  /// @brief Values that deserve a line.
  [[nodiscard]] std::vector<double> ticks() const;

  /// @brief Lines across from `svg::left` on, with their values.
  [[nodiscard]] std::string grid(double end_x) const;

 private:
  double lowest_ = 0.0;
  double highest_ = 0.0;
  double bottom_log_ = 0.0;
  double top_log_ = 1.0;
  double begin_ = 0.0;
  double end_ = 1.0;
};

/// A linear x axis from 0 on.
class LinearAxis {
 public:
  /// @param begin, @param end SVG units
  LinearAxis(double largest, double begin, double end, double ticks);

  [[nodiscard]] double x(double value) const { return begin_ + (end_ - begin_) * value / last_; }

  [[nodiscard]] double end() const { return end_; }

  [[nodiscard]] std::vector<double> ticks() const;

  [[nodiscard]] std::string text(double tick) const { return tick_text(tick, step_); }

  /// @brief Lines down to the bottom of a chart of this height, with their values.
  [[nodiscard]] std::string grid(double height) const;

 private:
  double begin_;
  double end_;
  double step_;
  double last_;
};

}  // namespace llama::svg
