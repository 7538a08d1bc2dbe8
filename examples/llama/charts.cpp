#include "charts.hpp"

#include "svg.hpp"
#include "text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>

namespace llama {

namespace {

constexpr double top = svg::top;
constexpr double bottom = svg::bottom;
constexpr double left = svg::left;
constexpr double plot_width = svg::width - svg::left - svg::right;
constexpr std::size_t most_tooltips = 240;

constexpr std::array fidelity_names{"exact", "compact", "frozen", "asleep", "evicted"};

using svg::close_chart;
using svg::coordinate;
using svg::fill_of;
using svg::stroke_of;
using svg::text_element;
using svg::tick_step;
using svg::tick_text;

/// Title, note, legend of coloured names and the opened SVG element.
std::string open_chart(ChartText const& text, std::span<Series const> legend, double height) {
  std::vector<svg::LegendEntry> entries;
  for (Series const& s : legend) {
    entries.push_back({s.name, s.colour});
  }
  return svg::open_chart(text, entries, height);
}

/// From data to SVG units, with axes: x is the step, y goes from 0 to the largest value.
class Plot {
 public:
  Plot(std::size_t steps, double largest) : steps_(std::max<std::size_t>(steps, 2)) {
    y_step_ = tick_step(largest > 0.0 ? largest : 1.0, 5.0);
    y_end_ = y_step_ * std::ceil((largest > 0.0 ? largest : 1.0) / y_step_ - 1e-9);
  }

  static constexpr double height = 300.0;

  [[nodiscard]] double x(std::size_t step) const {
    return left + plot_width * static_cast<double>(step) / static_cast<double>(steps_ - 1);
  }

  [[nodiscard]] double y(double value) const {
    return height - bottom - (height - top - bottom) * value / y_end_;
  }

  [[nodiscard]] std::string axes(ChartText const& text) const {
    std::string svg;
    for (double v = 0.0; v <= y_end_ * 1.0001; v += y_step_) {
      svg += "<path class=\"grid\" d=\"M" + coordinate(left) + " " + coordinate(y(v)) + "h" +
             coordinate(plot_width) + "\"/>\n" +
             text_element(left - 8, y(v) + 4, "end", tick_text(v, y_step_));
    }
    double const step = std::max(1.0, tick_step(static_cast<double>(steps_ - 1), 10.0));
    for (double v = 0.0; v <= static_cast<double>(steps_ - 1); v += step) {
      svg += text_element(x(static_cast<std::size_t>(v)), height - bottom + 18, "middle",
                          tick_text(v, step));
    }
    std::string const middle = coordinate(top + (height - top - bottom) / 2);
    svg +=
        text_element(left + plot_width / 2, height - 6, "middle", text.x_label, " class=\"label\"");
    svg += "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(16 " + middle +
           ") rotate(-90)\">" + escape_html(text.y_label) + "</text>\n";
    return svg;
  }

  /// Invisible strips whose tooltips tell the values.
  [[nodiscard]] std::string tooltips(ChartText const& text,
                                     std::vector<Series> const& series) const {
    std::string svg = "<g class=\"tips\">\n";
    std::size_t const count = series.empty() ? 0 : series.front().values.size();
    std::size_t const stride =
        std::max<std::size_t>(1, (count + most_tooltips - 1) / most_tooltips);
    double const strip = plot_width * static_cast<double>(stride) / static_cast<double>(steps_ - 1);
    for (std::size_t i = 0; i < count; i += stride) {
      std::string tip = text.x_label + " " + std::to_string(i);
      for (Series const& s : series) {
        tip += "\n" + s.name + ": " + format_number(s.values[i], text.decimals);
      }
      double const begin = std::max(x(i) - strip / 2, left);
      double const end = std::min(x(i) + strip / 2, left + plot_width);
      svg += "<rect x=\"" + coordinate(begin) + "\" y=\"" + coordinate(top) + "\" width=\"" +
             coordinate(end - begin) + "\" height=\"" + coordinate(height - top - bottom) +
             "\"><title>" + escape_html(tip) + "</title></rect>\n";
    }
    return svg + "</g>\n";
  }

 private:
  std::size_t steps_;
  double y_step_;
  double y_end_;
};

std::size_t step_count(std::vector<Series> const& series) {
  return series.empty() ? 0 : series.front().values.size();
}

/// Running sums: sums[i][step] is the top of layer i.
std::vector<std::vector<double>> stack(std::vector<Series> const& series) {
  std::vector<std::vector<double>> sums;
  std::vector<double> sum(step_count(series), 0.0);
  for (Series const& s : series) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += s.values[i];
    }
    sums.push_back(sum);
  }
  return sums;
}

double largest_of(std::vector<double> const& values) {
  return values.empty() ? 0.0 : *std::max_element(values.begin(), values.end());
}

std::string polyline(Plot const& plot, std::vector<double> const& values, bool backwards) {
  std::string path;
  for (std::size_t n = 0; n < values.size(); ++n) {
    std::size_t const i = backwards ? values.size() - 1 - n : n;
    path += (path.empty() ? "" : "L") + coordinate(plot.x(i)) + " " + coordinate(plot.y(values[i]));
  }
  return path;
}

}  // namespace

std::string stacked_areas(ChartText const& text, std::vector<Series> const& series) {
  auto const sums = stack(series);
  Plot const plot(step_count(series), sums.empty() ? 0.0 : largest_of(sums.back()));
  std::string html = open_chart(text, series, Plot::height);
  std::vector<double> below(step_count(series), 0.0);
  for (std::size_t i = 0; i < series.size(); ++i) {
    html += "<path style=\"" + fill_of(series[i].colour) + "\" d=\"M" +
            polyline(plot, sums[i], false) + "L" + polyline(plot, below, true) + "z\"/>\n";
    below = sums[i];
  }
  return html + plot.axes(text) + plot.tooltips(text, series) + close_chart();
}

std::string lines(ChartText const& text, std::vector<Series> const& series,
                  std::vector<Mark> const& marks) {
  double largest = 0.0;
  for (Series const& s : series) {
    largest = std::max(largest, largest_of(s.values));
  }
  Plot const plot(step_count(series), largest);
  std::vector<Series> legend = series;
  for (Mark const& mark : marks) {
    if (std::none_of(legend.begin(), legend.end(),
                     [&](Series const& known) { return known.name == mark.name; })) {
      legend.push_back({mark.name, mark.colour, {}});
    }
  }
  std::string html = open_chart(text, legend, Plot::height) + plot.axes(text);
  for (Series const& s : series) {
    html += "<path class=\"line\" style=\"" + stroke_of(s.colour) + "\" d=\"M" +
            polyline(plot, s.values, false) + "\"/>\n";
  }
  html += plot.tooltips(text, series);
  for (Mark const& mark : marks) {
    html += "<circle class=\"mark\" style=\"" + fill_of(mark.colour) + "\" cx=\"" +
            coordinate(plot.x(mark.step)) + "\" cy=\"" + coordinate(plot.y(mark.value)) +
            "\" r=\"5\"><title>" + escape_html(mark.tip) + "</title></circle>\n";
  }
  return html + close_chart();
}

std::string stacked_bars(ChartText const& text, std::vector<Series> const& series) {
  auto const sums = stack(series);
  std::size_t const count = step_count(series);
  Plot const plot(count, sums.empty() ? 0.0 : largest_of(sums.back()));
  std::string const thickness = coordinate(
      std::max(0.6, 0.8 * plot_width / static_cast<double>(std::max<std::size_t>(count, 1))));
  std::string html = open_chart(text, series, Plot::height) + plot.axes(text);
  for (std::size_t s = 0; s < series.size(); ++s) {
    std::string path;
    for (std::size_t i = 0; i < count; ++i) {
      double const base = s == 0 ? 0.0 : sums[s - 1][i];
      if (sums[s][i] > base) {
        path += "M" + coordinate(plot.x(i)) + " " + coordinate(plot.y(base)) + "V" +
                coordinate(plot.y(sums[s][i]));
      }
    }
    html += "<path style=\"fill:none;" + stroke_of(series[s].colour) +
            ";stroke-width:" + thickness + "\" d=\"" + path + "\"/>\n";
  }
  return html + plot.tooltips(text, series) + close_chart();
}

std::string scatter(ChartText const& text, std::vector<Dots> const& groups) {
  constexpr double height = 420.0;
  constexpr double label_width = 150.0;  // room on the right for what is written beside dots
  double largest_x = 0.0;
  svg::LogAxis y_axis;
  std::vector<Series> legend;
  for (Dots const& group : groups) {
    legend.push_back({group.name, group.colour, {}});
    for (Dot const& dot : group.dots) {
      if (dot.y > 0.0) {
        largest_x = std::max(largest_x, dot.x);
        y_axis.hold(dot.y);
      }
    }
  }
  y_axis.place(top, height - bottom);
  svg::LinearAxis const x_axis(largest_x, left, left + plot_width - label_width, 8.0);
  std::string html = open_chart(text, legend, height) + x_axis.grid(height) +
                     y_axis.grid(x_axis.end()) + svg::axis_labels(text, x_axis.end(), height);
  for (Dots const& group : groups) {
    std::string path;
    std::string circles;
    for (Dot const& dot : group.dots) {
      if (!(dot.y > 0.0)) {
        continue;
      }
      std::string const at_x = coordinate(x_axis.x(dot.x));
      std::string const at_y = coordinate(y_axis.y(dot.y));
      path += (path.empty() ? "M" : "L") + at_x + " " + at_y;
      circles += "<circle class=\"mark\" style=\"" + fill_of(group.colour) + "\" cx=\"" + at_x +
                 "\" cy=\"" + at_y + "\" r=\"5\"><title>" + escape_html(dot.tip) +
                 "</title></circle>\n";
      if (!dot.label.empty()) {
        circles += text_element(x_axis.x(dot.x) + 9, y_axis.y(dot.y) + 4, "start", dot.label);
      }
    }
    if (group.joined) {
      html +=
          "<path class=\"line\" style=\"" + stroke_of(group.colour) + "\" d=\"" + path + "\"/>\n";
    }
    html += circles;
  }
  return html + close_chart();
}

std::string heat_map(ChartText const& text, FidelityMap const& map) {
  constexpr double row_height = 5.0;
  int const lanes = map.layers * map.lanes_per_layer;
  double const plot_height = row_height * lanes;
  double const height = top + plot_height + bottom;
  std::size_t const length = static_cast<std::size_t>(map.length);
  auto const lane_cells = [&](int lane) {
    return std::span(map.cells).subspan(static_cast<std::size_t>(lane) * length, length);
  };

  std::vector<Series> legend;
  for (std::size_t f = 0; f < fidelity_names.size(); ++f) {
    if (std::find(map.cells.begin(), map.cells.end(), static_cast<kvfreeze::Fidelity>(f)) !=
        map.cells.end()) {
      legend.push_back({fidelity_names[f], fidelity_names[f], {}});
    }
  }
  std::string html = open_chart(text, legend, height);

  // Runs of equal fidelity, drawn as strokes: one path for each fidelity.
  std::array<std::string, fidelity_names.size()> paths;
  for (int lane = 0; lane < lanes; ++lane) {
    auto const cells = lane_cells(lane);
    for (std::size_t begin = 0; begin < length;) {
      std::size_t end = begin;
      while (end < length && cells[end] == cells[begin]) {
        ++end;
      }
      paths[static_cast<std::size_t>(cells[begin])] += "M" + std::to_string(begin) + " " +
                                                       std::to_string(lane) + ".5h" +
                                                       std::to_string(end - begin);
      begin = end;
    }
  }
  html += "<g transform=\"translate(" + coordinate(left) + " " + coordinate(top) + ") scale(" +
          format_number(plot_width / std::max(map.length, 1), 6) + " " + coordinate(row_height) +
          ")\">\n";
  for (std::size_t f = 0; f < paths.size(); ++f) {
    if (!paths[f].empty()) {
      html += "<path style=\"fill:none;stroke-width:1;" + stroke_of(fidelity_names[f]) + "\" d=\"" +
              paths[f] + "\"/>\n";
    }
  }
  html += "</g>\n<g class=\"tips\">\n";
  for (int lane = 0; lane < lanes; ++lane) {
    auto const cells = lane_cells(lane);
    std::string tip = "layer " + std::to_string(lane / map.lanes_per_layer) + ", lane " +
                      std::to_string(lane % map.lanes_per_layer);
    for (std::size_t f = 0; f < fidelity_names.size(); ++f) {
      auto const rows = std::count(cells.begin(), cells.end(), static_cast<kvfreeze::Fidelity>(f));
      if (rows > 0) {
        tip += std::string("\n") + fidelity_names[f] + ": " +
               format_count(static_cast<std::uint64_t>(rows)) + " rows (" +
               format_percent(static_cast<double>(rows) / static_cast<double>(length)) + ")";
      }
    }
    html += "<rect x=\"" + coordinate(left) + "\" y=\"" + coordinate(top + row_height * lane) +
            "\" width=\"" + coordinate(plot_width) + "\" height=\"" + coordinate(row_height) +
            "\"><title>" + escape_html(tip) + "</title></rect>\n";
  }
  html += "</g>\n";

  int const layer_stride = std::max(1, map.layers / 10);
  for (int layer = 0; layer < map.layers; layer += layer_stride) {
    html += text_element(left - 8, top + row_height * (layer + 0.5) * map.lanes_per_layer + 4,
                         "end", std::to_string(layer));
  }
  double const step = std::max(1.0, tick_step(std::max(map.length, 1), 10.0));
  for (double v = 0.0; v <= map.length; v += step) {
    html += text_element(left + plot_width * v / std::max(map.length, 1), top + plot_height + 18,
                         "middle", tick_text(v, step));
  }
  html +=
      text_element(left + plot_width / 2, height - 6, "middle", text.x_label, " class=\"label\"");
  html += "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(16 " +
          coordinate(top + plot_height / 2) + ") rotate(-90)\">" + escape_html(text.y_label) +
          "</text>\n";
  return html + close_chart();
}

}  // namespace llama
