#include "report_html.hpp"

#include "status.hpp"
#include "text.hpp"

#include <algorithm>
#include <functional>

namespace llama {

namespace {

constexpr std::string_view style = R"css(
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2430; --soft: #5b6675;
  --rule: #dfe4ea; --card: #f6f8fa;
  --exact: #1f5fbf; --compact: #2aa198; --frozen: #8fc1ee; --asleep: #d5dde6; --evicted: #e6a3a3;
  --resident: #1f5fbf; --full: #98a2b0; --cap: #c2410c; --in: #1f5fbf; --out: #e08a2e;
  --entropy: #7a4fb5; --sr: #d9a400; --wr: #e08a2e; --fr: #d1453b; --rr: #8c1d40; }
@media (prefers-color-scheme: dark) { :root { --paper: #12161c; --ink: #e4e9f0; --soft: #98a5b5;
  --rule: #2b333e; --card: #1a2029;
  --exact: #6ea8fe; --compact: #3fc9bb; --frozen: #2f5d8c; --asleep: #333c48; --evicted: #7d4040;
  --resident: #6ea8fe; --full: #7b8797; --cap: #ff8a4c; --in: #6ea8fe; --out: #f0a656;
  --entropy: #b794f6; --sr: #f2c94c; --wr: #f0a656; --fr: #ff6b61; --rr: #ff8fb3; } }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.1rem; margin: 0; }
figure { margin: 2.2rem 0; } figcaption p { margin: .15rem 0 .5rem; color: var(--soft); }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 12px; fill: var(--soft); }
svg .label { fill: var(--ink); font-size: 13px; }
.grid { stroke: var(--rule); stroke-opacity: .7; fill: none; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.mark { stroke: var(--paper); stroke-width: 1; }
.tips rect { fill: transparent; } .tips rect:hover { fill: var(--ink); fill-opacity: .12; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .4rem;
  padding: 0; font-size: .9rem; }
.legend i { display: inline-block; width: .85em; height: .85em; border-radius: 2px;
  margin-right: .45em; vertical-align: -.05em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--rule); text-align: right; }
.wide { overflow-x: auto; font-size: .85rem; }
.wide td:not(:first-child) { white-space: nowrap; } .wide td:first-child { overflow-wrap: anywhere; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
details { margin: 1.4rem 0 0; } summary { cursor: pointer; font-weight: 600; }
.words { white-space: pre-wrap; background: var(--card); border-radius: 8px; padding: 1rem 1.2rem;
  margin: .6rem 0 0; overflow-wrap: anywhere; }
)css";

/// One value of every step.
std::vector<double> values_of(std::vector<Step> const& steps,
                              std::function<double(kvfreeze::StepReport const&)> const& value) {
  std::vector<double> values;
  values.reserve(steps.size());
  for (Step const& step : steps) {
    values.push_back(value(step.report));
  }
  return values;
}

bool has_any(Series const& series) {
  return std::any_of(series.values.begin(), series.values.end(), [](double x) { return x > 0.0; });
}

/// The unit in which the largest of some byte counts is readable.
struct ByteUnit {
  double bytes;
  std::string name;
};

ByteUnit unit_for(double largest) {
  if (largest >= 1e9) {
    return {1e9, "GB"};
  }
  return largest >= 1e6 ? ByteUnit{1e6, "MB"} : ByteUnit{1e3, "kB"};
}

std::string rows_chart(std::vector<Step> const& steps) {
  auto const layer = [&](char const* name, std::uint64_t kvfreeze::RowCounts::* rows) {
    return Series{name, name, values_of(steps, [rows](kvfreeze::StepReport const& r) {
                    return static_cast<double>(r.rows.*rows) / 1e3;
                  })};
  };
  std::vector<Series> series{
      layer("exact", &kvfreeze::RowCounts::exact), layer("compact", &kvfreeze::RowCounts::compact),
      layer("frozen", &kvfreeze::RowCounts::frozen), layer("asleep", &kvfreeze::RowCounts::asleep),
      layer("evicted", &kvfreeze::RowCounts::evicted)};
  std::erase_if(series, [](Series const& s) { return !has_any(s); });
  return stacked_areas({.title = "Rows by fidelity",
                        .note = "Key and value rows of all layers and KV heads after each step.",
                        .x_label = "generated token",
                        .y_label = "thousand rows"},
                       series);
}

std::string memory_chart(HtmlReport const& report) {
  auto const full = [](kvfreeze::StepReport const& r) { return static_cast<double>(r.full_bytes); };
  auto const resident = [](kvfreeze::StepReport const& r) {
    return static_cast<double>(r.ledger.resident());
  };
  std::vector<Series> series{{"resident", "resident", values_of(report.steps, resident)},
                             {"full cache", "full", values_of(report.steps, full)}};
  if (report.cap_bytes != kvfreeze::unlimited) {
    series.push_back(
        {"cap", "cap",
         std::vector<double>(report.steps.size(), static_cast<double>(report.cap_bytes))});
  }
  double largest = 0.0;
  for (Series const& s : series) {
    largest = std::max(largest, *std::max_element(s.values.begin(), s.values.end()));
  }
  ByteUnit const unit = unit_for(largest);
  for (Series& s : series) {
    std::transform(s.values.begin(), s.values.end(), s.values.begin(),
                   [&](double x) { return x / unit.bytes; });
  }
  return lines({.title = "Resident memory",
                .note = "Everything that the cache holds outside its tier, beside an ordinary "
                        "16-bit cache of the same length.",
                .x_label = "generated token",
                .y_label = unit.name,
                .decimals = 2},
               series);
}

std::string traffic_chart(std::vector<Step> const& steps) {
  auto const in = [](kvfreeze::StepReport const& r) {
    return static_cast<double>(r.moved_in_bytes);
  };
  auto const out = [](kvfreeze::StepReport const& r) {
    return static_cast<double>(r.moved_out_bytes);
  };
  std::vector<Series> series{{"thawed (tier to cache)", "in", values_of(steps, in)},
                             {"frozen (cache to tier)", "out", values_of(steps, out)}};
  double largest = 0.0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    largest = std::max(largest, series[0].values[i] + series[1].values[i]);
  }
  ByteUnit const unit = unit_for(largest);
  for (Series& s : series) {
    std::transform(s.values.begin(), s.values.end(), s.values.begin(),
                   [&](double x) { return x / unit.bytes; });
  }
  return stacked_bars({.title = "Bytes moved per step",
                       .note = "A row that the tier has already is frozen without a copy.",
                       .x_label = "generated token",
                       .y_label = unit.name + " per step",
                       .decimals = 2},
                      series);
}

std::string entropy_chart(std::vector<Step> const& steps) {
  auto const entropy = [](kvfreeze::StepReport const& r) {
    return r.has_logits ? static_cast<double>(r.entropy) : 0.0;
  };
  std::vector<Mark> marks;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    kvfreeze::StepReport const& r = steps[i].report;
    if (r.recovery == kvfreeze::Recovery::none) {
      continue;
    }
    std::string const name(recovery_name(r.recovery));
    std::string colour = name;
    std::transform(colour.begin(), colour.end(), colour.begin(),
                   [](char c) { return static_cast<char>(c - 'A' + 'a'); });
    marks.push_back({i, entropy(r), name, colour,
                     name + " at token " + std::to_string(i) + ", entropy " +
                         format_number(entropy(r), 2) + " nats"});
  }
  std::string const counted =
      marks.empty()
          ? "No trigger fired."
          : std::to_string(marks.size()) + " steps on which a trigger thawed rows are marked.";
  return lines({.title = "Entropy of the next token",
                .note = "How unsure the model is. " + counted,
                .x_label = "generated token",
                .y_label = "nats",
                .decimals = 2},
               {{"entropy", "entropy", values_of(steps, entropy)}}, marks);
}

}  // namespace

std::string html_page(std::string const& title, std::string const& body,
                      std::string_view more_style) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         escape_html(title) + "</title>\n<style>" + std::string(style) + std::string(more_style) +
         "</style>\n</head>\n<body>\n<h1>" + escape_html(title) + "</h1>\n" + body +
         "</body>\n</html>\n";
}

std::string standalone_svg(std::string const& part, std::string_view more_style) {
  constexpr std::string_view open = "<svg ";
  constexpr std::string_view close = "</svg>";
  std::size_t const begin = part.find(open);
  std::size_t const end = part.find(close, begin);
  if (begin == std::string::npos || end == std::string::npos) {
    return "";
  }
  std::size_t const head = part.find('>', begin) + 1;
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" " +
         part.substr(begin + open.size(), head - begin - open.size()) + "<style>" +
         std::string(style) + std::string(more_style) +
         "svg { background: var(--paper); font-family: system-ui, sans-serif; }</style>\n" +
         part.substr(head, end + close.size() - head) + "\n";
}

std::string html_table(std::vector<std::vector<std::string>> const& table) {
  std::string html = "<table>\n";
  for (std::size_t i = 0; i < table.size(); ++i) {
    std::string const cell = i == 0 ? "th" : "td";
    html += "<tr>";
    for (std::string const& content : table[i]) {
      html += "<" + cell + ">" + escape_html(content) + "</" + cell + ">";
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

std::string render_html(HtmlReport const& report) {
  std::vector<Step> decode;
  std::copy_if(report.steps.begin(), report.steps.end(), std::back_inserter(decode),
               [](Step const& step) { return step.kind == StepKind::decode; });
  HtmlReport decode_only = report;
  decode_only.steps = decode;

  std::string html = html_table(report.table);
  if (!decode.empty()) {
    html += rows_chart(decode) + memory_chart(decode_only) + traffic_chart(decode) +
            entropy_chart(decode);
  }
  html += heat_map({.title = "Fidelity of every row at the end",
                    .note = "Each line is a lane (one KV head of one layer), layer 0 at the top.",
                    .x_label = "position in the text (token)",
                    .y_label = "layer"},
                   report.map);
  html += "<details><summary>Prompt</summary><div class=\"words\">" + escape_html(report.prompt) +
          "</div></details>\n<details open><summary>Generated text</summary><div class=\"words\">" +
          escape_html(report.text) + "</div></details>\n";
  return html_page(report.title, html);
}

}  // namespace llama
