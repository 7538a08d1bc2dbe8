#include "comparison_charts.hpp"

#include "svg.hpp"
#include "text.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace llama {

namespace {

using svg::bottom;
using svg::coordinate;
using svg::fill_of;
using svg::left;
using svg::stroke_of;
using svg::text_element;
using svg::top;
using svg::width;

std::string title_element(std::string const& tip) {
  return "<title>" + escape_html(tip) + "</title>";
}

/// The dots of a group that a logarithmic axis has a place for.
std::vector<Dot> visible(Dots const& group) {
  std::vector<Dot> dots;
  std::copy_if(group.dots.begin(), group.dots.end(), std::back_inserter(dots),
               [](Dot const& dot) { return dot.y > 0.0 && std::isfinite(dot.y); });
  return dots;
}

double largest_x(std::vector<Dots> const& groups) {
  double largest = 0.0;
  for (Dots const& group : groups) {
    for (Dot const& dot : visible(group)) {
      largest = std::max(largest, dot.x);
    }
  }
  return largest;
}

svg::LogAxis y_axis_of(std::vector<Dots> const& groups, double begin, double end) {
  svg::LogAxis axis;
  for (Dots const& group : groups) {
    for (Dot const& dot : group.dots) {
      axis.hold(dot.y);
    }
  }
  axis.place(begin, end);
  return axis;
}

std::string path_of(std::vector<Dot> const& dots, svg::LinearAxis const& x, svg::LogAxis const& y) {
  std::string path;
  for (Dot const& dot : dots) {
    path += (path.empty() ? "M" : "L") + coordinate(x.x(dot.x)) + " " + coordinate(y.y(dot.y));
  }
  return path;
}

std::string circles_of(Dots const& group, std::vector<Dot> const& dots, svg::LinearAxis const& x,
                       svg::LogAxis const& y, double radius) {
  std::string html;
  for (Dot const& dot : dots) {
    html += "<circle class=\"mark\" style=\"" + fill_of(group.colour) + "\" cx=\"" +
            coordinate(x.x(dot.x)) + "\" cy=\"" + coordinate(y.y(dot.y)) + "\" r=\"" +
            coordinate(radius) + "\">" + title_element(dot.tip) + "</circle>\n";
  }
  return html;
}

/// Places for labels that want to be at `wanted`, in the same order, `distance` apart.
std::vector<double> spread(std::vector<double> const& wanted, double distance, double begin,
                           double end) {
  std::vector<std::size_t> order(wanted.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
  std::vector<double> places(wanted.size());
  double free_from = begin;
  for (std::size_t const i : order) {
    places[i] = std::max(wanted[i], free_from);
    free_from = places[i] + distance;
  }
  double free_to = end;  // those that were pushed out at the end come back
  for (std::size_t n = order.size(); n > 0; --n) {
    double& place = places[order[n - 1]];
    place = std::min(place, free_to);
    free_to = place - distance;
  }
  return places;
}

}  // namespace

std::string labelled_curves(ChartText const& text, std::vector<Dots> const& groups) {
  constexpr double label_width = 250.0;
  constexpr double line_height = 14.0;
  double const height =
      std::max(440.0, top + bottom + line_height * static_cast<double>(groups.size()));
  double const end_x = width - label_width;
  svg::LogAxis const y = y_axis_of(groups, top, height - bottom);
  svg::LinearAxis const x(largest_x(groups), left, end_x, 8.0);
  std::string html = svg::open_chart(text, {}, height) + x.grid(height) + y.grid(end_x) +
                     svg::axis_labels(text, end_x, height);

  std::vector<std::vector<Dot>> dots;
  std::vector<double> wanted;
  std::vector<Dots const*> shown;
  for (Dots const& group : groups) {
    std::vector<Dot> of_group = visible(group);
    if (!of_group.empty()) {
      wanted.push_back(y.y(of_group.back().y));
      dots.push_back(std::move(of_group));
      shown.push_back(&group);
    }
  }
  std::vector<double> const places = spread(wanted, line_height, top + 4, height - bottom);
  std::string labels;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    Dots const& group = *shown[i];
    double const last_x = x.x(dots[i].back().x);
    html += "<path class=\"leader\" style=\"" + stroke_of(group.colour) + "\" d=\"M" +
            coordinate(last_x) + " " + coordinate(wanted[i]) + "H" +
            coordinate(std::max(last_x, end_x)) + "L" + coordinate(end_x + 14) + " " +
            coordinate(places[i]) + "\"/>\n";
    if (group.joined) {
      html += "<path class=\"line\" style=\"" + stroke_of(group.colour) + "\" d=\"" +
              path_of(dots[i], x, y) + "\"/>\n";
    }
    html += circles_of(group, dots[i], x, y, 3.5);
    labels += text_element(end_x + 17, places[i] + 4, "start", group.name,
                           " class=\"name\" style=\"" + fill_of(group.colour) + "\"");
  }
  return html + labels + svg::close_chart();
}

std::string small_multiples(ChartText const& text, std::vector<Dots> const& groups,
                            std::string const& id) {
  constexpr std::size_t columns = 4;
  constexpr double panel_width = width / static_cast<double>(columns);
  constexpr double panel_height = 158.0;
  constexpr double begin_x = 46.0;
  constexpr double end_x = panel_width - 14.0;
  constexpr double begin_y = 24.0;
  constexpr double end_y = panel_height - 24.0;
  svg::LogAxis const y = y_axis_of(groups, begin_y, end_y);
  svg::LinearAxis const x(largest_x(groups), begin_x, end_x, 3.0);
  std::size_t const lines = (groups.size() + columns - 1) / columns;
  std::string html = svg::open_chart(text, {}, panel_height * static_cast<double>(lines));

  // Everything that all panels have, drawn once.
  // What is used from here sees no rule of the page but those of single classes.
  html += "<defs><g id=\"" + id + "\" font-size=\"11\" style=\"fill:var(--soft)\">\n";
  std::vector<double> const ticks = y.ticks();
  std::size_t const stride = (ticks.size() + 4) / 5;
  for (std::size_t i = 0; i < ticks.size(); i += std::max<std::size_t>(stride, 1)) {
    html += "<path class=\"grid\" d=\"M" + coordinate(begin_x) + " " + coordinate(y.y(ticks[i])) +
            "H" + coordinate(end_x) + "\"/>\n" +
            text_element(begin_x - 5, y.y(ticks[i]) + 4, "end", format_small(ticks[i]));
  }
  for (double const tick : x.ticks()) {
    html += "<path class=\"grid\" d=\"M" + coordinate(x.x(tick)) + " " + coordinate(begin_y) + "V" +
            coordinate(end_y) + "\"/>\n" +
            text_element(x.x(tick), end_y + 15, "middle", x.text(tick));
  }
  for (Dots const& group : groups) {
    html += "<path class=\"pale\" d=\"" + path_of(visible(group), x, y) + "\"/>\n";
  }
  html += "</g></defs>\n";

  for (std::size_t i = 0; i < groups.size(); ++i) {
    Dots const& group = groups[i];
    std::vector<Dot> const dots = visible(group);
    html += "<g transform=\"translate(" +
            coordinate(panel_width * static_cast<double>(i % columns)) + " " +
            coordinate(panel_height * static_cast<double>(i / columns)) + ")\"><use href=\"#" + id +
            "\"/>\n" + text_element(begin_x, 14, "start", group.name, " class=\"label\"");
    html += "<path class=\"line\" style=\"" + stroke_of(group.colour) + "\" d=\"" +
            path_of(dots, x, y) + "\"/>\n" + circles_of(group, dots, x, y, 3.0) + "</g>\n";
  }
  return html + svg::close_chart();
}

std::string shade_panels(ChartText const& text, std::vector<ShadePanel> const& panels,
                         std::string const& colour, double cell_width, double cell_height) {
  constexpr double gap = 20.0;
  constexpr double title_height = 20.0;
  constexpr double letter = 7.4;  // of the page's small type, SVG units
  std::size_t columns = 1;
  std::size_t rows = 1;
  std::size_t longest_name = 0;
  std::size_t longest_title = 0;
  bool names_columns = false;
  for (ShadePanel const& panel : panels) {
    columns = std::max(columns, panel.columns.size());
    rows = std::max(rows, panel.rows.size());
    longest_title = std::max(longest_title, panel.title.size());
    for (std::string const& name : panel.rows) {
      longest_name = std::max(longest_name, name.size());
    }
    for (std::string const& name : panel.columns) {
      names_columns = names_columns || !name.empty();
    }
  }
  double const label_width = letter * static_cast<double>(longest_name) + 8.0;
  double const content = label_width + cell_width * static_cast<double>(columns);
  double const panel_width = std::max(content, 7.0 * static_cast<double>(longest_title)) + gap;
  double const panel_height = title_height + cell_height * static_cast<double>(rows) +
                              (names_columns ? 18.0 : 4.0) + gap / 2;
  auto const in_line = static_cast<std::size_t>(std::max(std::floor(width / panel_width), 1.0));
  std::size_t const lines = (panels.size() + in_line - 1) / in_line;
  std::string html = svg::open_chart(text, {}, panel_height * static_cast<double>(lines));
  for (std::size_t i = 0; i < panels.size(); ++i) {
    ShadePanel const& panel = panels[i];
    html += "<g transform=\"translate(" +
            coordinate(panel_width * static_cast<double>(i % in_line)) + " " +
            coordinate(panel_height * static_cast<double>(i / in_line)) + ")\">\n" +
            text_element(label_width, 13, "start", panel.title, " class=\"label\"");
    for (std::size_t r = 0; r < panel.rows.size(); ++r) {
      double const y = title_height + cell_height * static_cast<double>(r);
      if (!panel.rows[r].empty()) {
        html += text_element(label_width - 5, y + cell_height / 2 + 4, "end", panel.rows[r]);
      }
      for (std::size_t c = 0; c < panel.columns.size(); ++c) {
        Shade const& cell = panel.cells[r * panel.columns.size() + c];
        double const x = label_width + cell_width * static_cast<double>(c);
        std::string const style =
            cell.known
                ? fill_of(colour) + ";fill-opacity:" + format_number(0.06 + 0.94 * cell.share, 3)
                : "fill:none;stroke:var(--rule)";
        html += "<rect x=\"" + coordinate(x + 0.5) + "\" y=\"" + coordinate(y + 0.5) +
                "\" width=\"" + coordinate(cell_width - 1) + "\" height=\"" +
                format_number(cell_height - (cell_height > 8 ? 1.0 : 0.4), 1) + "\" style=\"" +
                style + "\">" + title_element(cell.tip) + "</rect>\n";
        if (!cell.text.empty()) {
          html += text_element(
              x + cell_width / 2, y + cell_height / 2 + 4, "middle", cell.text,
              cell.known && cell.share > 0.5 ? " class=\"on-dark\"" : " class=\"on-pale\"");
        }
      }
    }
    double const below = title_height + cell_height * static_cast<double>(panel.rows.size()) + 13;
    for (std::size_t c = 0; c < panel.columns.size(); ++c) {
      if (!panel.columns[c].empty()) {
        html += text_element(label_width + cell_width * (static_cast<double>(c) + 0.5), below,
                             "middle", panel.columns[c]);
      }
    }
    html += "</g>\n";
  }
  return html + svg::close_chart();
}

std::string named_bars(ChartText const& text, std::vector<std::string> const& names,
                       std::vector<Series> const& series) {
  constexpr double name_width = 250.0;
  constexpr double value_width = 60.0;
  constexpr double bar_height = 18.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    double sum = 0.0;
    for (Series const& s : series) {
      sum += s.values[i];
    }
    largest = std::max(largest, sum);
  }
  svg::LinearAxis const x(largest, name_width, width - value_width, 8.0);
  double const height = top + bar_height * static_cast<double>(names.size()) + bottom;
  std::vector<svg::LegendEntry> legend;
  for (Series const& s : series) {
    legend.push_back({s.name, s.colour});
  }
  std::string html = svg::open_chart(text, legend, height) + x.grid(height) +
                     text_element((name_width + x.end()) / 2, height - 6, "middle", text.x_label,
                                  " class=\"label\"");
  for (std::size_t i = 0; i < names.size(); ++i) {
    double const y = top + bar_height * static_cast<double>(i);
    html += text_element(name_width - 8, y + 13, "end", names[i], " class=\"label\"");
    double sum = 0.0;
    for (Series const& s : series) {
      html += "<rect style=\"" + fill_of(s.colour) + "\" x=\"" + coordinate(x.x(sum)) + "\" y=\"" +
              coordinate(y + 3) + "\" width=\"" + coordinate(x.x(s.values[i]) - x.x(0.0)) +
              "\" height=\"" + coordinate(bar_height - 6) + "\">" +
              title_element(names[i] + "\n" + s.name + ": " +
                            format_number(s.values[i], text.decimals)) +
              "</rect>\n";
      sum += s.values[i];
    }
    html += text_element(x.x(sum) + 5, y + 13, "start", format_number(sum, text.decimals));
  }
  return html + svg::close_chart();
}

}  // namespace llama
