#pragma once

#include <kvfreeze/types.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace llama {

/// @brief Text for HTML and SVG: &, <, > and quotes as entities.
std::string escape_html(std::string_view text);

/// One curve, layer or set of bars: a value for each step.
struct Series {
  std::string name;
  std::string colour;  ///< a custom property of the page's style sheet, without the dashes
  std::vector<double> values;
};

/// A dot on a line chart.
struct Mark {
  std::size_t step = 0;
  double value = 0.0;
  std::string name;  ///< of its kind, for the legend
  std::string colour;
  std::string tip;
};

/// What is written around a chart.
struct ChartText {
  std::string title;
  std::string note;     ///< a sentence below the title
  std::string x_label;  ///< with its unit
  std::string y_label;  ///< with its unit
  int decimals = 1;     ///< of values in tooltips
};

/// @brief Series on top of each other; the height is the sum.
std::string stacked_areas(ChartText const& text, std::vector<Series> const& series);

/// @brief One line for each series, with dots on top.
std::string lines(ChartText const& text, std::vector<Series> const& series,
                  std::vector<Mark> const& marks = {});

/// @brief A bar for each step, the series on top of each other.
std::string stacked_bars(ChartText const& text, std::vector<Series> const& series);

/// A point of a scatter chart.
struct Dot {
  double x = 0.0;
  double y = 0.0;
  std::string tip;
  std::string label;  ///< written beside it; may be empty
};

/// Points of one kind.
struct Dots {
  std::string name;
  std::string colour;
  std::vector<Dot> dots;
  bool joined = false;  ///< by a line, in the order given
};

/// @brief Points over a linear x axis from 0 on and a logarithmic y axis. Points that are not above
/// 0 in y are left out.
std::string scatter(ChartText const& text, std::vector<Dots> const& groups);

/// The fidelity of every row: `cells[lane * length + position]`, lanes layer by layer.
struct FidelityMap {
  int layers = 0;
  int lanes_per_layer = 0;
  int length = 0;
  std::vector<kvfreeze::Fidelity> cells;
};

/// @brief Lanes down, positions across, colours by fidelity.
std::string heat_map(ChartText const& text, FidelityMap const& map);

}  // namespace llama
