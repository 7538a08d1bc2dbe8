#include "summary.hpp"

#include "../text.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace llama::lab {

namespace {

/// A piece's own interval would say little: all that belongs to a point is gathered first.
struct Gathered {
  Point point;
  std::vector<double> kl;
  std::vector<double> nll_difference;
  double steps = 0.0;
  double retained = 0.0;  // cells with a map
};

std::string setup_of(JsonObject const& cell) {
  return cell.text("model") + ", weights " + cell.text("weights") + ", chunks of " +
         std::to_string(cell.whole("prefill_chunk")) + ", threads " +
         std::to_string(cell.whole("threads")) + ", version " + cell.text("version");
}

/// Of each cell in turn; setups only where there are several.
std::vector<Scope> scopes_of(std::span<JsonObject const> cells) {
  std::vector<Scope> scopes;
  bool several = false;
  for (JsonObject const& cell : cells) {
    std::string const& task = cell.text("task");
    bool const by_text = task == "kl" || task == "stress";
    scopes.push_back({task, task == "stress" ? cell.text("variant") : "", cell.whole("context"),
                      by_text ? cell.text("text") : "", setup_of(cell)});
    several = several || scopes.back().setup != scopes.front().setup;
  }
  if (!several) {
    for (Scope& scope : scopes) {
      scope.setup.clear();
    }
  }
  return scopes;
}

Fraction fraction_of(JsonObject const& cell) {
  double const value = cell.number("resident");
  return std::isnan(value) ? Fraction() : Fraction(value);
}

/// "depth=30" -> "30 %".
std::vector<std::string> places_of(JsonObject const& cell, std::size_t count) {
  std::string const& variant = cell.text("variant");
  std::string const value = variant.substr(variant.find('=') + 1);
  std::string const& task = cell.text("task");
  if (task == "passkey") {
    return {value + " %"};
  }
  if (task == "tracking") {
    return {value + (value == "1" ? " hop" : " hops")};
  }
  if (task == "needles") {
    std::vector<std::string> places = split(value, '-');
    places.resize(count);
    for (std::string& place : places) {
      place += " %";
    }
    return places;
  }
  return {"all"};
}

void add_answers(Point& point, JsonObject const& cell) {
  std::vector<double> const& right = cell.numbers("right_each");
  int const wanted = cell.whole("wanted");
  std::vector<std::string> const places = places_of(cell, right.size());
  bool const each = places.size() == right.size();
  for (std::size_t i = 0; i < places.size(); ++i) {
    auto found = std::find_if(point.answers.begin(), point.answers.end(),
                              [&](Answers const& a) { return a.place == places[i]; });
    if (found == point.answers.end()) {
      found = point.answers.insert(point.answers.end(), {places[i], 0, 0});
    }
    found->right += each ? static_cast<int>(right[i]) : cell.whole("right");
    found->wanted += each ? wanted / static_cast<int>(right.size()) : wanted;
  }
}

void add_mean(double& mean, double value, double weight, double all) {
  mean += (value - mean) * weight / all;
}

void add_list(std::vector<double>& sums, std::vector<double> const& more) {
  sums.resize(std::max(sums.size(), more.size()), 0.0);
  for (std::size_t i = 0; i < more.size(); ++i) {
    sums[i] += more[i];
  }
}

void add_measured(Gathered& to, JsonObject const& cell) {
  Point& p = to.point;
  double const steps = std::max(cell.number("decode_steps"), 1.0);
  to.steps += steps;
  auto const mean = [&](double& of, char const* name) {
    add_mean(of, cell.number(name), steps, to.steps);
  };
  mean(p.resident_mean, "resident_of_context_mean");
  mean(p.moved_bytes, "moved_bytes_per_step_mean");
  mean(p.seconds_per_token, "seconds_per_token");
  mean(p.attend_seconds, "attend_seconds_per_token");
  mean(p.advance_seconds, "advance_seconds_per_token");
  add_mean(p.recoveries_per_thousand, 1e3 * cell.number("recoveries") / steps, steps, to.steps);
  p.resident_peak = std::max(p.resident_peak, cell.number("resident_of_context_peak"));
  if (cell.has("kl")) {
    auto const& kl = cell.numbers("kl");
    auto const& nll = cell.numbers("nll_difference");
    p.positions += kl.size();
    to.kl.insert(to.kl.end(), kl.begin(), kl.end());
    to.nll_difference.insert(to.nll_difference.end(), nll.begin(), nll.end());
    add_mean(p.top1_agreement, cell.number("top1_agreement"), static_cast<double>(kl.size()),
             static_cast<double>(p.positions));
  }
  if (cell.has("wanted")) {
    add_answers(p, cell);
  }
  if (cell.has("retention_exact")) {
    p.retention_layers = cell.whole("retention_layers");
    add_list(p.retention_exact, cell.numbers("retention_exact"));
    add_list(p.retention_compact, cell.numbers("retention_compact"));
    to.retained += 1.0;
  }
}

void add(Gathered& to, JsonObject const& cell) {
  std::string const& status = cell.text("status");
  to.point.cells += 1;
  if (status == "measured") {
    add_measured(to, cell);
    return;
  }
  // What is missing in one piece is missing in the whole.
  to.point.status = status == "unreachable" ? CellStatus::unreachable : CellStatus::failed;
  to.point.reason = cell.text("reason");
  if (cell.has("least_fraction")) {
    to.point.least_fraction =
        std::max(to.point.least_fraction.value_or(0.0), cell.number("least_fraction"));
  }
}

Point finished(Gathered gathered) {
  Point p = std::move(gathered.point);
  if (p.status != CellStatus::measured) {
    return p;
  }
  if (!gathered.kl.empty()) {
    auto const mean_of = [](std::vector<double> const& values) {
      return std::accumulate(values.begin(), values.end(), 0.0) /
             static_cast<double>(values.size());
    };
    p.kl_mean = mean_of(gathered.kl);
    p.kl = bootstrap_mean(gathered.kl);
    p.kl_p99 = percentile(gathered.kl, 0.99);
    p.perplexity_ratio = std::exp(mean_of(gathered.nll_difference));
  }
  for (std::vector<double>* const map : {&p.retention_exact, &p.retention_compact}) {
    for (double& share : *map) {
      share /= gathered.retained;
    }
  }
  return p;
}

}  // namespace

Answers Point::all_answers() const {
  Answers all{"all", 0, 0};
  for (Answers const& a : answers) {
    all.right += a.right;
    all.wanted += a.wanted;
  }
  return all;
}

Labels::Labels(std::span<JsonObject const> cells) {
  std::map<std::string, std::string> settings;
  for (JsonObject const& cell : cells) {
    std::string const& preset = cell.text("preset");
    auto const [known, is_new] = settings.emplace(preset, cell.text("settings"));
    if (!is_new && known->second != cell.text("settings")) {
      ambiguous_.push_back(preset);
    }
  }
}

std::string Labels::of(JsonObject const& cell) const {
  std::string const& preset = cell.text("preset");
  bool const ambiguous =
      std::find(ambiguous_.begin(), ambiguous_.end(), preset) != ambiguous_.end();
  return ambiguous ? preset + " [" + cell.text("settings") + "]" : preset;
}

std::vector<std::string> Labels::all(std::span<JsonObject const> cells) const {
  std::vector<std::string> labels;
  for (JsonObject const& cell : cells) {
    std::string label = of(cell);
    if (std::find(labels.begin(), labels.end(), label) == labels.end()) {
      labels.push_back(std::move(label));
    }
  }
  return labels;
}

std::vector<Scope> find_scopes(std::span<JsonObject const> cells) {
  std::vector<Scope> scopes;
  for (Scope& scope : scopes_of(cells)) {
    if (std::find(scopes.begin(), scopes.end(), scope) == scopes.end()) {
      scopes.push_back(std::move(scope));
    }
  }
  return scopes;
}

std::vector<Point> find_points(std::span<JsonObject const> cells, Scope const& scope) {
  std::vector<Gathered> gathered;
  std::vector<std::string> presets;
  std::vector<Scope> const scopes = scopes_of(cells);
  Labels const labels(cells);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    JsonObject const& cell = cells[i];
    if (!(scopes[i] == scope)) {
      continue;
    }
    std::string const preset = labels.of(cell);
    Fraction const fraction = fraction_of(cell);
    if (std::find(presets.begin(), presets.end(), preset) == presets.end()) {
      presets.push_back(preset);
    }
    auto found = std::find_if(gathered.begin(), gathered.end(), [&](Gathered const& g) {
      return g.point.preset == preset && g.point.fraction == fraction;
    });
    if (found == gathered.end()) {
      found = gathered.insert(gathered.end(), Gathered{});
      found->point.preset = preset;
      found->point.fraction = fraction;
    }
    add(*found, cell);
  }
  auto const rank = [&](std::string const& preset) {
    return std::find(presets.begin(), presets.end(), preset) - presets.begin();
  };
  std::stable_sort(gathered.begin(), gathered.end(), [&](Gathered const& a, Gathered const& b) {
    auto const ranks = std::pair(rank(a.point.preset), rank(b.point.preset));
    return ranks.first != ranks.second ? ranks.first < ranks.second
                                       : a.point.fraction < b.point.fraction;
  });
  std::vector<Point> points;
  for (Gathered& g : gathered) {
    points.push_back(finished(std::move(g)));
  }
  return points;
}

std::vector<std::string> distinct(std::span<JsonObject const> cells, std::string_view member) {
  std::vector<std::string> values;
  for (JsonObject const& cell : cells) {
    if (std::find(values.begin(), values.end(), cell.text(member)) == values.end()) {
      values.push_back(cell.text(member));
    }
  }
  return values;
}

Fraction middle_fraction(std::span<Point const> points) {
  std::vector<double> fractions;
  for (Point const& p : points) {
    if (p.fraction &&
        std::find(fractions.begin(), fractions.end(), *p.fraction) == fractions.end()) {
      fractions.push_back(*p.fraction);
    }
  }
  std::sort(fractions.begin(), fractions.end());
  return fractions.empty() ? Fraction() : Fraction(fractions[(fractions.size() - 1) / 2]);
}

std::vector<Point> points_at(std::span<Point const> points, Fraction const& fraction) {
  std::vector<Point> result;
  for (Point const& p : points) {
    bool const only = std::count_if(points.begin(), points.end(), [&](Point const& other) {
                        return other.preset == p.preset;
                      }) == 1;
    if (p.fraction == fraction || (only && !p.fraction)) {
      result.push_back(p);
    }
  }
  return result;
}

}  // namespace llama::lab
