#include "report.hpp"

#include "../comparison_charts.hpp"
#include "../report_html.hpp"
#include "../text.hpp"

#include <algorithm>
#include <array>
#include <string_view>

namespace llama::lab {

namespace {

constexpr std::size_t colours = 12;

// Twelve hues that differ in lightness too, for both schemes.
constexpr std::string_view style = R"css(
:root { --s0: #1f5fbf; --s1: #c2410c; --s2: #15803d; --s3: #7a4fb5; --s4: #b0196a; --s5: #0e7490;
  --s6: #a16207; --s7: #dc2626; --s8: #4d7c0f; --s9: #475569; --s10: #9333ea; --s11: #0f766e;
  --model: #98a2b0; --attention: #1f5fbf; --advance: #e08a2e; --shade: #1f5fbf; --shade-2: #0f766e; }
@media (prefers-color-scheme: dark) { :root { --s0: #6ea8fe; --s1: #ff8a4c; --s2: #5fd08a;
  --s3: #b794f6; --s4: #ff7ab8; --s5: #4fd1e8; --s6: #e6b94a; --s7: #ff6b61; --s8: #b2d35a;
  --s9: #a9b6c6; --s10: #d29bff; --s11: #4fd0bf; --model: #56616f; --attention: #6ea8fe;
  --advance: #f0a656; --shade: #6ea8fe; --shade-2: #4fd0bf; } }
body { max-width: 72rem; }
h2.part { font-size: 1.35rem; margin: 3rem 0 0; border-top: 1px solid var(--rule); padding-top: 1.2rem; }
.facts td { text-align: left; }
nav { margin: 1rem 0; font-size: .9rem; } nav a { margin-right: 1rem; color: var(--s0); }
.leader { fill: none; stroke-width: .8; stroke-opacity: .45; stroke-dasharray: 2 2; }
.pale { fill: none; stroke: var(--rule); stroke-width: 1.2; }
svg .name { font-size: 12.5px; } svg .on-dark { fill: var(--paper); font-size: 11px; }
svg .on-pale { fill: var(--ink); font-size: 11px; }
)css";

std::string table_html(Table const& table) {
  return "<div class=\"wide\">\n" + html_table(table) + "</div>\n";
}

std::string folded(std::string const& summary, std::string const& content) {
  return "<details><summary>" + escape_html(summary) + "</summary>\n" + content + "</details>\n";
}

/// Systems keep their colours through the page.
class Colours {
 public:
  explicit Colours(std::span<JsonObject const> cells) : presets_(Labels(cells).all(cells)) {}

  [[nodiscard]] std::string of(std::string const& preset) const {
    auto const at = std::find(presets_.begin(), presets_.end(), preset) - presets_.begin();
    return "s" + std::to_string(static_cast<std::size_t>(at) % colours);
  }

 private:
  std::vector<std::string> presets_;
};

std::string size_text(Fraction const& fraction) {
  return fraction ? format_percent(*fraction) : "own size";
}

/// The end of the charts' x axis, %: systems that cannot be made smaller would squeeze all others.
double chart_end(std::span<Point const> points) {
  double largest = 0.0;
  double largest_capped = 0.0;
  for (Point const& p : points) {
    if (p.status == CellStatus::measured && p.kl_mean > 0.0) {
      largest = std::max(largest, p.resident_mean);
      largest_capped = std::max(largest_capped, p.fraction ? p.resident_mean : 0.0);
    }
  }
  return 100.0 * (largest_capped > 0.0 ? std::min(largest, 1.2 * largest_capped) : largest);
}

/// KL against resident bytes, a curve for each system.
std::vector<Dots> curves(std::span<Point const> points, Colours const& colour) {
  double const end = chart_end(points);
  std::vector<Dots> groups;
  std::string preset;
  for (Point const& p : points) {
    if (groups.empty() || preset != p.preset) {
      preset = p.preset;
      groups.push_back({preset, colour.of(preset), {}, /*joined=*/true});
    }
    if (p.status != CellStatus::measured) {
      continue;
    }
    double const resident = 100.0 * p.resident_mean;
    if (resident > end) {
      groups.back().name += " (at " + format_percent(p.resident_mean) + ")";
    }
    groups.back().dots.push_back({std::min(resident, end), p.kl_mean,
                                  p.preset + " at " + size_text(p.fraction) + "\nresident " +
                                      format_percent(p.resident_mean) + "\nKL " +
                                      format_small(p.kl_mean) + " nats, 95 % " +
                                      format_range(p.kl.low, p.kl.high),
                                  ""});
  }
  for (Dots& group : groups) {
    std::sort(group.dots.begin(), group.dots.end(),
              [](Dot const& a, Dot const& b) { return a.x < b.x; });
  }
  std::erase_if(groups, [](Dots const& group) {
    return std::none_of(group.dots.begin(), group.dots.end(),
                        [](Dot const& dot) { return dot.y > 0.0; });
  });
  return groups;
}

std::string time_bars(std::span<Point const> points) {
  Fraction const fraction = middle_fraction(points);
  std::vector<Point> shown = points_at(points, fraction);
  std::erase_if(shown, [](Point const& p) { return p.status != CellStatus::measured; });
  std::stable_sort(shown.begin(), shown.end(), [](Point const& a, Point const& b) {
    return a.seconds_per_token < b.seconds_per_token;
  });
  std::vector<std::string> names;
  Series model{"model", "model", {}};
  Series attention{"attention", "attention", {}};
  Series advance{"advance()", "advance", {}};
  for (Point const& p : shown) {
    names.push_back(p.preset);
    attention.values.push_back(1e3 * p.attend_seconds);
    advance.values.push_back(1e3 * p.advance_seconds);
    model.values.push_back(
        std::max(1e3 * (p.seconds_per_token - p.attend_seconds - p.advance_seconds), 0.0));
  }
  return named_bars({.title = "Time for a token",
                     .note = "Means over the decoded tokens, at a cap of " + size_text(fraction) +
                             "; systems without a cap at their own size.",
                     .x_label = "ms",
                     .y_label = "",
                     .decimals = 2},
                    names, {model, attention, advance});
}

/// What each head kept: exact rows on the left, compact ones on the right.
std::string retention_maps(std::span<Point const> points) {
  Fraction const fraction = middle_fraction(points);
  std::vector<ShadePanel> panels;
  for (Point const& p : points_at(points, fraction)) {
    if (p.status != CellStatus::measured || p.retention_exact.empty()) {
      continue;
    }
    auto const layers = static_cast<std::size_t>(p.retention_layers);
    std::size_t const lanes = p.retention_exact.size() / layers;
    ShadePanel panel{p.preset, {}, std::vector<std::string>(2 * lanes), {}};
    panel.columns[lanes / 2] = "exact";
    panel.columns[lanes + lanes / 2] = "compact";
    for (std::size_t layer = 0; layer < layers; ++layer) {
      panel.rows.push_back(layer % 5 == 0 ? std::to_string(layer) : "");
      for (auto const* const map : {&p.retention_exact, &p.retention_compact}) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
          double const share = (*map)[layer * lanes + lane];
          panel.cells.push_back({share, true, "",
                                 p.preset + "\nlayer " + std::to_string(layer) + ", KV head " +
                                     std::to_string(lane) + "\n" +
                                     (map == &p.retention_exact ? "exact " : "compact ") +
                                     format_percent(share)});
        }
      }
    }
    panels.push_back(std::move(panel));
  }
  if (panels.empty()) {
    return "";
  }
  return shade_panels({.title = "What each head kept",
                       .note = "Mean share of rows that were exact (left) and compact (right), "
                               "layers from top to bottom, KV heads side by side, at a cap of " +
                               size_text(fraction) + ". Stronger colours are more.",
                       .x_label = "",
                       .y_label = ""},
                      panels, "shade-2", 18.0, 5.0);
}

/// Places down, sizes across.
std::string answer_maps(std::span<Point const> points) {
  std::vector<Fraction> sizes;
  std::vector<ShadePanel> panels;
  for (Point const& p : points) {
    if (p.fraction && std::find(sizes.begin(), sizes.end(), p.fraction) == sizes.end()) {
      sizes.push_back(p.fraction);
    }
  }
  std::sort(sizes.begin(), sizes.end());
  std::vector<std::string> places;
  for (Point const& p : points) {
    for (Answers const& a : p.answers) {
      if (std::find(places.begin(), places.end(), a.place) == places.end()) {
        places.push_back(a.place);
      }
    }
  }
  std::vector<std::string> const presets = [&] {
    std::vector<std::string> names;
    for (Point const& p : points) {
      if (names.empty() || names.back() != p.preset) {
        names.push_back(p.preset);
      }
    }
    return names;
  }();
  for (std::string const& preset : presets) {
    ShadePanel panel{preset, places, {}, {}};
    std::vector<Point const*> columns;
    for (Point const& p : points) {
      if (p.preset == preset) {
        columns.push_back(&p);
        panel.columns.push_back(p.fraction ? format_number(100.0 * *p.fraction, 0) + "%" : "own");
      }
    }
    for (std::string const& place : places) {
      for (Point const* const p : columns) {
        auto const found = std::find_if(p->answers.begin(), p->answers.end(),
                                        [&](Answers const& a) { return a.place == place; });
        if (found == p->answers.end() || p->status != CellStatus::measured) {
          panel.cells.push_back({0.0, false, "-", preset + ": " + p->reason});
          continue;
        }
        double const share =
            static_cast<double>(found->right) / static_cast<double>(std::max(found->wanted, 1));
        panel.cells.push_back({share, true, std::to_string(found->right),
                               preset + " at " + size_text(p->fraction) + "\n" + place + ": " +
                                   std::to_string(found->right) + " of " +
                                   std::to_string(found->wanted)});
      }
    }
    panels.push_back(std::move(panel));
  }
  int wanted = 0;
  for (Point const& p : points) {
    for (Answers const& a : p.answers) {
      wanted = std::max(wanted, a.wanted);
    }
  }
  return shade_panels({.title = "Right answers by place and size",
                       .note = "Numbers are right answers, of " + std::to_string(wanted) +
                               " at the most in a field; a dash: could not be measured. Stronger "
                               "colours are more.",
                       .x_label = "",
                       .y_label = ""},
                      panels, "shade", 34.0, 20.0);
}

std::string quality_chart(std::vector<Dots> const& groups) {
  ChartText const text{
      .title = "KL against memory",
      .note =
          "Mean divergence of the next-token distribution from the plain cache's, second half "
          "of the text, decoded token by token. Lower and further left is better. Systems whose "
          "name tells a "
          "size are larger than the chart.",
      .x_label = "resident bytes, % of a 16-bit cache (mean over steps, everything counted)",
      .y_label = "mean KL, nats",
      .decimals = 3};
  return labelled_curves(text, groups);
}

std::string quality_part(std::span<Point const> points, Colours const& colour,
                         std::string const& id) {
  std::vector<Dots> const groups = curves(points, colour);
  std::string html = quality_chart(groups);
  html += small_multiples({.title = "The same, system by system",
                           .note = "All other systems pale behind.",
                           .x_label = "",
                           .y_label = ""},
                          groups, id);
  html += time_bars(points) + retention_maps(points);
  return html + folded("Figures", table_html(quality_table(points)));
}

std::string part(Scope const& scope, std::span<Point const> points, Colours const& colour,
                 std::string const& id) {
  std::string html =
      "<h2 class=\"part\" id=\"" + id + "\">" + escape_html(scope_title(scope)) + "</h2>\n";
  if (scope.task == "kl") {
    html += quality_part(points, colour, id + "-axes");
  } else if (scope.task == "stress") {
    html += table_html(stress_table(scope, points));
  } else {
    html += answer_maps(points) + folded("Figures", table_html(answer_table(points)));
  }
  Table const missing = missing_table(points);
  return missing.empty() ? html
                         : html + folded("Not measured: " + std::to_string(missing.size() - 1) +
                                             " of " + std::to_string(points.size()),
                                         table_html(missing));
}

}  // namespace

std::string picture_file(Scope const& scope) {
  if (scope.task != "kl") {
    return "";
  }
  std::string text = scope.text + (scope.setup.empty() ? "" : "-" + scope.setup);
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')); }, '-');
  return "kl-" + std::to_string(scope.context) + "-" + text + ".svg";
}

std::vector<ReportPicture> lab_report_pictures(std::span<JsonObject const> cells) {
  Colours const colour(cells);
  std::vector<ReportPicture> pictures;
  for (Scope const& scope : find_scopes(cells)) {
    std::string const file = picture_file(scope);
    if (!file.empty()) {
      std::vector<Point> const points = find_points(cells, scope);
      pictures.push_back({file, standalone_svg(quality_chart(curves(points, colour)), style)});
    }
  }
  return pictures;
}

std::string lab_report_html(std::span<JsonObject const> cells) {
  Colours const colour(cells);
  std::vector<Scope> const scopes = find_scopes(cells);
  std::string html =
      "<div class=\"facts\">\n" + html_table(provenance_table(cells)) + "</div>\n<nav>";
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    html += "<a href=\"#part" + std::to_string(i) + "\">" + escape_html(scope_title(scopes[i])) +
            "</a> ";
  }
  html += "</nav>\n";
  for (std::size_t i = 0; i < scopes.size(); ++i) {
    html += part(scopes[i], find_points(cells, scopes[i]), colour, "part" + std::to_string(i));
  }
  return html_page("kvfreeze: caches compared", html, style);
}

}  // namespace llama::lab
