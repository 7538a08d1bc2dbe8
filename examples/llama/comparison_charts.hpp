#pragma once

#include "charts.hpp"

#include <string>
#include <vector>

namespace llama {

// Charts of many systems side by side. Colours are custom properties of the page's style sheet.

/// @brief Curves over a linear x axis from 0 on and a logarithmic y axis, each with its name
/// beside it: no legend to look things up in. Points that are not above 0 in y are left out.
std::string labelled_curves(ChartText const& text, std::vector<Dots> const& groups);

/// @brief A small panel for each group, with the axes of `labelled_curves` and all other groups
/// pale behind it.
/// @param id of the page's part, different for each chart
std::string small_multiples(ChartText const& text, std::vector<Dots> const& groups,
                            std::string const& id);

/// A field of a table of shades.
struct Shade {
  double share = 0.0;  ///< how dark, in [0, 1]
  bool known = true;   ///< otherwise it is hatched
  std::string text;    ///< written on it; may be empty
  std::string tip;
};

/// A table of shades.
struct ShadePanel {
  std::string title;
  std::vector<std::string> rows;     ///< names; empty ones are not written
  std::vector<std::string> columns;  ///< likewise
  std::vector<Shade> cells;          ///< row by row
};

/// @brief Tables of shades, as many in a line as there is room for.
/// @param cell_width, @param cell_height SVG units; the page is 960 wide
std::string shade_panels(ChartText const& text, std::vector<ShadePanel> const& panels,
                         std::string const& colour, double cell_width, double cell_height);

/// @brief A horizontal bar for each name, the series end to end.
std::string named_bars(ChartText const& text, std::vector<std::string> const& names,
                       std::vector<Series> const& series);

}  // namespace llama
