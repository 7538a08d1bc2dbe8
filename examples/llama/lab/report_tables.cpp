#include "../text.hpp"
#include "report.hpp"

#include <algorithm>
#include <cmath>

namespace llama::lab {

namespace {

std::string joined(std::vector<std::string> const& items) {
  std::string text;
  for (std::string const& item : items) {
    text += (text.empty() ? "" : ", ") + item;
  }
  return text;
}

std::string size_text(Fraction const& fraction) {
  return fraction ? format_percent(*fraction) : "own";
}

std::string score_text(Answers const& answers) {
  return std::to_string(answers.right) + "/" + std::to_string(answers.wanted);
}

/// Measured points by size, the best of each size first.
std::vector<Point const*> ranked(std::span<Point const> points) {
  std::vector<Point const*> order;
  for (Point const& p : points) {
    if (p.status == CellStatus::measured) {
      order.push_back(&p);
    }
  }
  std::stable_sort(order.begin(), order.end(), [](Point const* a, Point const* b) {
    return a->fraction != b->fraction ? a->fraction < b->fraction : a->kl_mean < b->kl_mean;
  });
  return order;
}

}  // namespace

std::string scope_title(Scope const& scope) {
  std::string const size = format_count(static_cast<std::uint64_t>(scope.context)) + " tokens";
  std::string const of = (scope.text.empty() ? size : size + " of " + scope.text) +
                         (scope.setup.empty() ? "" : " (" + scope.setup + ")");
  if (scope.task == "stress") {
    static constexpr std::pair<std::string_view, std::string_view> kinds[] = {
        {"kind=calm", "calm text"},
        {"kind=switch", "two texts that take turns"},
        {"kind=late", "late questions about early text"},
        {"kind=code", "code with far references"}};
    for (auto const& [variant, title] : kinds) {
      if (scope.variant == variant) {
        return "Stress: " + std::string(title) + ", " + of;
      }
    }
  }
  static constexpr std::pair<std::string_view, std::string_view> titles[] = {
      {"kl", "Divergence from the plain cache"},
      {"passkey", "Pass key in prose"},
      {"needles", "Four needles in prose"},
      {"tracking", "Variable tracking"},
      {"copy", "A passage copied from far above"}};
  for (auto const& [task, title] : titles) {
    if (scope.task == task) {
      return std::string(title) + ", " + of;
    }
  }
  return scope.task + ", " + of;
}

Table provenance_table(std::span<JsonObject const> cells) {
  std::vector<std::string> threads;
  std::vector<std::string> protocols;
  for (JsonObject const& cell : cells) {
    std::string const count = std::to_string(cell.whole("threads"));
    if (std::find(threads.begin(), threads.end(), count) == threads.end()) {
      threads.push_back(count);
    }
    if (cell.has("protocol") && cell.text("protocol") != "none" &&
        std::find(protocols.begin(), protocols.end(), cell.text("protocol")) == protocols.end()) {
      protocols.push_back(cell.text("protocol"));
    }
  }
  std::vector<std::string> dates = distinct(cells, "date");
  std::sort(dates.begin(), dates.end());
  return {{"", ""},
          {"model",
           joined(distinct(cells, "model")) + ", weights " + joined(distinct(cells, "weights"))},
          {"texts", joined(distinct(cells, "text"))},
          {"machine", joined(distinct(cells, "machine")) + ", threads " + joined(threads)},
          {"library",
           joined(distinct(cells, "version")) + ", commit " + joined(distinct(cells, "commit"))},
          {"byte cap in force", joined(protocols)},
          {"measured", dates.empty()       ? ""
                       : dates.size() == 1 ? dates.front()
                                           : dates.front() + " to " + dates.back()},
          {"cells", format_count(cells.size())}};
}

Table quality_table(std::span<Point const> points) {
  Table table{{"cache", "cap", "resident", "peak", "KL (nats)", "95 %", "99th pct", "ppl ratio",
               "top-1", "positions", "moved/step", "ms/token", "of it attention, advance"}};
  for (Point const* const p : ranked(points)) {
    table.push_back({p->preset, size_text(p->fraction), format_percent(p->resident_mean),
                     format_percent(p->resident_peak), format_small(p->kl_mean),
                     format_range(p->kl.low, p->kl.high), format_small(p->kl_p99),
                     format_number(p->perplexity_ratio, 4), format_percent(p->top1_agreement),
                     format_count(p->positions), format_bytes(p->moved_bytes),
                     format_number(1e3 * p->seconds_per_token, 2),
                     format_number(1e3 * (p->attend_seconds + p->advance_seconds), 2)});
  }
  return table;
}

Table answer_table(std::span<Point const> points) {
  std::vector<Fraction> sizes;
  std::vector<std::string> presets;
  for (Point const& p : points) {
    if (std::find(sizes.begin(), sizes.end(), p.fraction) == sizes.end()) {
      sizes.push_back(p.fraction);
    }
    if (std::find(presets.begin(), presets.end(), p.preset) == presets.end()) {
      presets.push_back(p.preset);
    }
  }
  std::sort(sizes.begin(), sizes.end());
  Table table{{"cache"}};
  for (Fraction const& size : sizes) {
    table[0].push_back(size_text(size));
  }
  for (std::string const& preset : presets) {
    std::vector<std::string> row{preset};
    for (Fraction const& size : sizes) {
      auto const found = std::find_if(points.begin(), points.end(), [&](Point const& p) {
        return p.preset == preset && p.fraction == size;
      });
      row.push_back(found == points.end()                      ? ""
                    : found->status == CellStatus::measured    ? score_text(found->all_answers())
                    : found->status == CellStatus::unreachable ? "-"
                                                               : "failed");
    }
    table.push_back(row);
  }
  return table;
}

Table stress_table(Scope const& scope, std::span<Point const> points) {
  // On calm text there is nothing to recover from.
  std::string const recoveries = scope.variant == "kind=calm" ? "false alarms" : "recoveries";
  Table table{{"cache", "cap", "resident", "KL (nats)", "95 %", "99th pct", "answers",
               recoveries + " per 1,000 tokens", "ms/token"}};
  for (Point const* const p : ranked(points)) {
    Answers const answers = p->all_answers();
    table.push_back({p->preset, size_text(p->fraction), format_percent(p->resident_mean),
                     format_small(p->kl_mean), format_range(p->kl.low, p->kl.high),
                     format_small(p->kl_p99), answers.wanted > 0 ? score_text(answers) : "",
                     format_number(p->recoveries_per_thousand, 1),
                     format_number(1e3 * p->seconds_per_token, 2)});
  }
  return table;
}

Table missing_table(std::span<Point const> points) {
  Table table;
  for (Point const& p : points) {
    if (p.status == CellStatus::measured) {
      continue;
    }
    if (table.empty()) {
      table.push_back({"cache", "cap", "least it could have", "why"});
    }
    table.push_back({p.preset, size_text(p.fraction),
                     p.least_fraction ? format_percent(*p.least_fraction) : "",
                     p.status == CellStatus::unreachable ? "cannot be so small: " + p.reason
                                                         : "failed: " + p.reason});
  }
  return table;
}

}  // namespace llama::lab
