#include <kvfreeze/error.hpp>

#include "../charts.hpp"
#include "../pareto_search.hpp"
#include "../report_html.hpp"
#include "../scoring.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace llama {

namespace {

/// A setting and the values that it may take, in rising order. The preset is one of them.
struct Axis {
  std::string name;
  std::vector<std::string> values;
};

/// What was measured of one composition.
struct Scored {
  Choice choice;
  RunSummary summary;
  Quality quality;
  bool searched = true;  ///< false: only put beside
  bool on_front = false;
  std::optional<ParetoSearch::Point> point;
};

constexpr char const* ladder_knobs =
    "none=0.005,0.01,0.02,0.04,0.08;first=0.1,0.2,0.3,0.5,0.8;second=0.8,0.9,1;stay=1,2,4,8,16;"
    "period=1,4,16;window=16,32,64";
constexpr char const* recall_knobs =
    "missed-mass=0.01,0.02,0.04,0.06,0.1,0.15;stay=1,2,4,8,16;hold=0.25,0.5,1;window=16,32,64";

/// "none=0.01,0.02;stay=2,4" -> two axes.
std::vector<Axis> parse_axes(std::string const& text) {
  std::vector<Axis> axes;
  for (std::string const& item : split(text, ';')) {
    std::size_t const equals = item.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == item.size()) {
      throw UserError("--knobs: '" + item + "' is not of the form knob=value,value");
    }
    axes.push_back({item.substr(0, equals), split(item.substr(equals + 1), ',')});
  }
  return axes;
}

/// The default axes of a preset: those whose knob it has.
std::vector<Axis> axes_for(Choice const& base) {
  return parse_axes(base.preset == &find_preset("KvFreeze") ? ladder_knobs : recall_knobs);
}

Choice choice_at(Choice const& base, std::vector<Axis> const& axes,
                 ParetoSearch::Point const& point) {
  std::string preset = base.label.substr(0, base.label.find(':'));
  std::string settings =
      base.label.size() > preset.size() ? base.label.substr(preset.size() + 1) : "";
  for (std::size_t i = 0; i < axes.size(); ++i) {
    std::string const& value = axes[i].values[point[i]];
    if (axes[i].name == "preset") {
      preset = value;
    } else {
      settings += (settings.empty() ? "" : ",") + axes[i].name + "=" + value;
    }
  }
  return find_choice(preset + (settings.empty() ? "" : ":" + settings));
}

/// Scores some compositions at a time against the plain cache.
class Scorer {
 public:
  Scorer(Engine& engine, std::vector<std::vector<int>> pieces, int from)
      : engine_(engine), pieces_(std::move(pieces)), from_(from) {}

  void score(std::span<Scored*> batch, std::function<void(double)> const& done) {
    Run plain = engine_.make_plain_run();
    std::vector<Candidate> candidates;
    for (Scored const* scored : batch) {
      candidates.push_back({scored->choice, engine_.make_run(scored->choice), {}});
    }
    for (std::size_t i = 0; i < pieces_.size(); ++i) {
      score_piece(pieces_[i], from_, plain, candidates, [&](double part) {
        done((static_cast<double>(i) + part) / static_cast<double>(pieces_.size()));
      });
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      batch[i]->summary = summarise(candidates[i].run.steps());
      batch[i]->quality = summarise(candidates[i].predictions);
    }
    plain_ = summarise(plain.steps());
  }

  /// Of the last batch.
  [[nodiscard]] RunSummary const& plain() const { return plain_; }

 private:
  Engine& engine_;
  std::vector<std::vector<int>> pieces_;
  int from_;
  RunSummary plain_;
};

/// Why this cannot be made, if it cannot: thresholds that do not ascend, a cap too low.
std::optional<std::string> obstacle(Engine& engine, Choice const& choice) {
  try {
    static_cast<void>(engine.make_run(choice));
    return {};
  } catch (kvfreeze::InvalidArgument const& error) {
    return error.what();
  } catch (kvfreeze::CapacityError const& error) {
    return error.what();
  }
}

Cost cost_of(Scored const& scored) {
  return {scored.summary.resident_fraction_mean, scored.quality.kl_mean};
}

std::vector<std::string> table_row(Scored const& s) {
  std::string const mark = !s.searched ? "beside" : s.on_front ? "front" : "";
  return {s.choice.label,
          mark,
          format_percent(s.summary.resident_fraction_mean),
          format_small(s.quality.kl_mean),
          format_range(s.quality.kl_low, s.quality.kl_high),
          format_small(s.quality.kl_p99),
          format_percent(s.summary.exact_fraction_mean),
          format_percent(s.summary.compact_fraction_mean),
          format_bytes(s.summary.moved_bytes_per_step_mean),
          format_number(1e3 / s.summary.decode_tokens_per_second, 2)};
}

std::vector<std::vector<std::string>> front_table(std::vector<Scored> const& scored) {
  std::vector<Scored const*> shown;
  for (Scored const& s : scored) {
    if (s.on_front || !s.searched) {
      shown.push_back(&s);
    }
  }
  std::sort(shown.begin(), shown.end(),
            [](Scored const* a, Scored const* b) { return cost_of(*a).x < cost_of(*b).x; });
  std::vector<std::vector<std::string>> table{{"composition", "", "resident", "KL (nats)", "95 %",
                                               "99th pct", "exact", "compact", "moved/step",
                                               "ms/token"}};
  for (Scored const* const s : shown) {
    table.push_back(table_row(*s));
  }
  return table;
}

std::string chart(std::vector<Scored> const& scored, std::string const& text) {
  Dots rest{"scored", "frozen", {}, false};
  Dots front{"Pareto front", "resident", {}, true};
  Dots beside{"beside", "cap", {}, false};
  std::vector<Scored const*> order;
  for (Scored const& s : scored) {
    order.push_back(&s);
  }
  std::sort(order.begin(), order.end(),
            [](Scored const* a, Scored const* b) { return cost_of(*a).x < cost_of(*b).x; });
  for (Scored const* const s : order) {
    std::string const tip =
        s->choice.label + "\nresident " + format_percent(s->summary.resident_fraction_mean) +
        ", KL " + format_small(s->quality.kl_mean) + " nats, " +
        format_number(1e3 / s->summary.decode_tokens_per_second, 2) + " ms/token";
    Dots& group = !s->searched ? beside : s->on_front ? front : rest;
    group.dots.push_back({100.0 * s->summary.resident_fraction_mean, s->quality.kl_mean, tip,
                          s->searched ? "" : s->choice.label});
  }
  return scatter({.title = "Quality against memory",
                  .note = "Every dot is a composition scored on " + text +
                          ", its settings in the tooltip. Lower and further left is better.",
                  .x_label = "resident bytes, % of an ordinary 16-bit cache",
                  .y_label = "mean KL from the plain cache, nats",
                  .decimals = 3},
                 {rest, front, beside});
}

Json figures(Engine const& engine, TuneOptions const& o, Scored const& s) {
  Json json;
  json.put("command", "tune");
  engine.put_settings(json, s.choice);
  json.put("text", o.text);
  json.put("offset_bytes", o.offset);
  json.put("chunks", o.chunks);
  json.put("from_position", o.from);
  json.put("scored_positions", s.quality.positions);
  json.put("searched", s.searched);
  json.put("on_front", s.on_front);
  json.put("seconds_per_token", 1.0 / s.summary.decode_tokens_per_second);
  put_figures(json, s.summary);
  put_figures(json, s.quality);
  return json;
}

/// The search, batch by batch. @return everything that was scored
std::vector<Scored> search_front(Engine& engine, TuneOptions const& o, Choice const& base,
                                 std::vector<Axis> const& axes, std::vector<Choice> const& beside,
                                 Scorer& scorer) {
  std::vector<std::size_t> sizes;
  for (Axis const& axis : axes) {
    sizes.push_back(axis.values.size());
  }
  ParetoSearch search(sizes);
  if (o.search == "grid") {
    search.ask_all();
  }
  std::vector<Scored> all;
  for (Choice const& choice : beside) {
    all.push_back({choice, {}, {}, /*searched=*/false, false, {}});
  }
  auto const limit = static_cast<std::size_t>(o.candidates) + beside.size();
  auto const width = static_cast<std::size_t>(o.batch);
  std::size_t scored = 0;
  Progress progress("tune");
  while (true) {
    // What is to be put beside comes with the first batch; the search fills it up.
    while (all.size() < std::min(limit, scored + width)) {
      auto const points = search.next(std::min(limit, scored + width) - all.size());
      if (points.empty()) {
        break;
      }
      for (ParetoSearch::Point const& point : points) {
        Choice const choice = choice_at(base, axes, point);
        auto const why = obstacle(engine, choice);
        if (!why) {
          all.push_back({choice, {}, {}, true, false, point});
        } else if (search.asked() == 1) {
          throw UserError("--knobs: the middle values, " + choice.label + ", do not work: " + *why);
        }
      }
    }
    if (all.size() == scored) {
      break;
    }
    std::vector<Scored*> batch;
    for (std::size_t i = scored; i < std::min(all.size(), scored + width); ++i) {
      batch.push_back(&all[i]);
    }
    scorer.score(batch, [&](double part) {
      double const done = static_cast<double>(scored) + part * static_cast<double>(batch.size());
      progress.show(done / static_cast<double>(limit));
    });
    for (Scored const* const s : batch) {
      if (s->point) {
        search.tell(*s->point, cost_of(*s));
      }
    }
    scored += batch.size();
  }
  progress.finish();
  std::vector<ParetoSearch::Point> const front = search.front();
  for (Scored& s : all) {
    s.on_front = s.point && std::find(front.begin(), front.end(), *s.point) != front.end();
  }
  return all;
}

}  // namespace

void tune(TuneOptions const& o) {
  Choice const base = find_choice(o.common.preset);
  std::vector<Axis> const axes = o.knobs.empty() ? axes_for(base) : parse_axes(o.knobs);
  std::vector<Choice> beside{base};
  if (!o.beside.empty()) {
    for (Choice const& choice : find_choices(o.beside)) {
      beside.push_back(choice);
    }
  }
  for (std::string const& file : {o.common.json, o.html}) {
    if (!file.empty()) {
      check_writable(file);
    }
  }
  if (o.from >= o.common.context) {
    throw UserError("--from " + std::to_string(o.from) + " leaves nothing of --context " +
                    std::to_string(o.common.context));
  }
  Engine engine(o.common);
  for (Choice const& choice : beside) {
    static_cast<void>(engine.make_run(choice));  // says what is wrong before the long work
  }
  Scorer scorer(engine, read_pieces(engine, o.text, o.offset, o.common.context, o.chunks), o.from);
  std::vector<Scored> const all = search_front(engine, o, base, axes, beside, scorer);

  std::size_t const positions = all.front().quality.positions;
  auto const table = front_table(all);
  std::string const where = std::to_string(o.chunks) + " x " + std::to_string(o.common.context) +
                            " tokens of " + std::filesystem::path(o.text).filename().string();
  std::printf(
      "%zu compositions at %zu positions from %d on, %s, weights %s; plain %.2f ms/token\n\n",
      all.size(), positions, o.from, where.c_str(),
      std::string(weight_type_name(o.common.weights)).c_str(),
      1e3 / scorer.plain().decode_tokens_per_second);
  print_table(table);
  if (!o.common.json.empty()) {
    std::vector<Json> objects;
    for (Scored const& s : all) {
      objects.push_back(figures(engine, o, s));
    }
    write_text_file(o.common.json, json_text(objects));
  }
  if (!o.html.empty()) {
    write_text_file(o.html, html_page("kvfreeze: the knobs of " + base.label,
                                      chart(all, where) + "<div class=\"wide\">\n" +
                                          html_table(table) + "</div>\n"));
    std::printf("\nplot: %s\n", std::filesystem::absolute(o.html).c_str());
  }
}

}  // namespace llama
