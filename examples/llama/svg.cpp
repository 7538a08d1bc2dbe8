#include "svg.hpp"

#include "text.hpp"

#include <algorithm>
#include <cmath>

namespace llama {

std::string escape_html(std::string_view text) {
  std::string out;
  for (char const c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

namespace svg {

std::string coordinate(double x) { return format_number(x, 1); }

double tick_step(double range, double count) {
  double const raw = range / count;
  double const power = std::pow(10.0, std::floor(std::log10(raw)));
  for (double const factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power * 1.0001) {
      return factor * power;
    }
  }
  return 10.0 * power;
}

std::string tick_text(double value, double step) {
  int const decimals = std::max(0, static_cast<int>(-std::floor(std::log10(step) + 1e-9)));
  return format_number(value, decimals);
}

std::string text_element(double x, double y, std::string_view anchor, std::string_view content,
                         std::string_view more) {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" text-anchor=\"" +
         std::string(anchor) + "\"" + std::string(more) + ">" + escape_html(content) + "</text>\n";
}

std::string fill_of(std::string_view colour) { return "fill:var(--" + std::string(colour) + ")"; }

std::string stroke_of(std::string_view colour) {
  return "stroke:var(--" + std::string(colour) + ")";
}

std::string open_figure(ChartText const& text, std::span<LegendEntry const> legend) {
  std::string html = "<figure>\n<figcaption><h2>" + escape_html(text.title) + "</h2>\n<p>" +
                     escape_html(text.note) + "</p>\n";
  if (!legend.empty()) {
    html += "<ul class=\"legend\">";
    for (LegendEntry const& entry : legend) {
      html += "<li><i style=\"background:var(--" + entry.colour + ")\"></i>" +
              escape_html(entry.name) + "</li>";
    }
    html += "</ul>\n";
  }
  return html + "</figcaption>\n";
}

std::string open_chart(ChartText const& text, std::span<LegendEntry const> legend, double height) {
  return open_figure(text, legend) + "<svg viewBox=\"0 0 " + coordinate(width) + " " +
         coordinate(height) + "\" role=\"img\" aria-label=\"" + escape_html(text.title) + "\">\n";
}

std::string close_chart() { return "</svg>\n</figure>\n"; }

std::string axis_labels(ChartText const& text, double end, double height) {
  return text_element((left + end) / 2, height - 6, "middle", text.x_label, " class=\"label\"") +
         "<text class=\"label\" text-anchor=\"middle\" transform=\"translate(16 " +
         coordinate(top + (height - top - bottom) / 2) + ") rotate(-90)\">" +
         escape_html(text.y_label) + "</text>\n";
}

void LogAxis::hold(double value) {
  if (!(value > 0.0) || !std::isfinite(value)) {
    return;
  }
  lowest_ = lowest_ > 0.0 ? std::min(lowest_, value) : value;
  highest_ = std::max(highest_, value);
}

void LogAxis::place(double begin, double end) {
  if (highest_ <= 0.0) {
    lowest_ = highest_ = 1.0;
  }
  bottom_log_ = std::log10(lowest_) - 0.1;
  top_log_ = std::log10(highest_) + 0.1;
  begin_ = begin;
  end_ = end;
}

double LogAxis::y(double value) const {
  double const share = (std::log10(value) - bottom_log_) / (top_log_ - bottom_log_);
  return end_ - (end_ - begin_) * share;
}

std::vector<double> LogAxis::ticks() const {
  std::vector<double> values;
  bool const dense = top_log_ - bottom_log_ < 3.0;  // then 2 and 5 have lines too
  for (int power = static_cast<int>(std::floor(bottom_log_)); power <= top_log_; ++power) {
    for (double const factor : {1.0, 2.0, 5.0}) {
      double const value = factor * std::pow(10.0, power);
      double const log = std::log10(value);
      if (log >= bottom_log_ && log <= top_log_ && (dense || factor == 1.0)) {
        values.push_back(value);
      }
    }
  }
  return values;
}

std::string LogAxis::grid(double end_x) const {
  std::string html;
  for (double const value : ticks()) {
    html += "<path class=\"grid\" d=\"M" + coordinate(left) + " " + coordinate(y(value)) + "H" +
            coordinate(end_x) + "\"/>\n" +
            text_element(left - 8, y(value) + 4, "end", format_small(value));
  }
  return html;
}

LinearAxis::LinearAxis(double largest, double begin, double end, double ticks)
    : begin_(begin), end_(end) {
  double const range = largest > 0.0 ? largest : 1.0;
  step_ = tick_step(range, ticks);
  last_ = step_ * std::ceil(range / step_ - 1e-9);
}

std::vector<double> LinearAxis::ticks() const {
  std::vector<double> values;
  for (double v = 0.0; v <= last_ * 1.0001; v += step_) {
    values.push_back(v);
  }
  return values;
}

std::string LinearAxis::grid(double height) const {
  std::string html;
  for (double const v : ticks()) {
    html += "<path class=\"grid\" d=\"M" + coordinate(x(v)) + " " + coordinate(top) + "V" +
            coordinate(height - bottom) + "\"/>\n" +
            text_element(x(v), height - bottom + 18, "middle", text(v));
  }
  return html;
}

}  // namespace svg

}  // namespace llama
