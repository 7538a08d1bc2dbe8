#include "../bandwidth.hpp"
#include "../engine.hpp"
#include "../prose.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace llama {

namespace {

constexpr int bandwidth_passes = 3;  // at each depth

/// Medians over the tokens decoded at one depth.
struct Speed {
  double tokens_per_second = 0.0;
  double milliseconds = 0.0;
  double attend_milliseconds = 0.0;
  double advance_milliseconds = 0.0;
  double touched_bytes = 0.0;

  /// Products, norms, logits: all that is not the cache's.
  [[nodiscard]] double rest_milliseconds() const {
    return milliseconds - attend_milliseconds - advance_milliseconds;
  }

  /// Bytes of the cache over the time in which they were read.
  [[nodiscard]] double bytes_per_second() const {
    return attend_milliseconds > 0.0 ? 1e3 * touched_bytes / attend_milliseconds : 0.0;
  }
};

/// One cache under test.
struct Contestant {
  Choice choice;
  std::string label;
  Run run;
  Speed first{};  ///< at the first depth
  Json json{};
};

Speed speed_of(std::span<Step const> steps) {
  auto const median_of = [&](auto const& value) {
    std::vector<double> values;
    for (Step const& step : steps) {
      values.push_back(static_cast<double>(value(step)));
    }
    return median(values);
  };
  Speed speed;
  speed.milliseconds = 1e3 * median_of([](Step const& s) { return s.seconds; });
  speed.tokens_per_second = 1e3 / speed.milliseconds;
  speed.attend_milliseconds = 1e3 * median_of([](Step const& s) { return s.attend_seconds; });
  speed.advance_milliseconds = 1e3 * median_of([](Step const& s) { return s.advance_seconds; });
  speed.touched_bytes = median_of([](Step const& s) { return s.report.touched_bytes; });
  return speed;
}

std::vector<int> read_tokens(Engine const& engine, BenchOptions const& o, int needed) {
  bool const own = o.text.empty();
  std::vector<int> tokens =
      engine.tokenizer().encode(own ? filler_prose(needed / 16 + 1) : read_text_file(o.text));
  if (tokens.size() < static_cast<std::size_t>(needed)) {
    throw UserError("the text '" + o.text + "' has " + std::to_string(tokens.size()) +
                    " tokens, but " + std::to_string(needed) + " are needed");
  }
  return tokens;
}

/// Fills all caches up to a depth, from where they are, chunk by chunk in turn.
void fill(std::vector<Contestant>& contestants, std::vector<int> const& tokens, int depth,
          std::function<void(int)> const& done) {
  int have = static_cast<int>(contestants.front().run.tokens().size());
  while (have < depth) {
    int const count = std::min(contestants.front().run.prefill_chunk(), depth - have);
    for (Contestant& c : contestants) {
      c.run.prefill(std::span(tokens).subspan(static_cast<std::size_t>(have),
                                              static_cast<std::size_t>(count)));
    }
    have += count;
    done(have);
  }
}

/// Decodes with all caches, token by token in turn, so that a busy machine slows all alike. The
/// turn begins with another one each time.
void decode(std::vector<Contestant>& contestants, std::span<int const> tokens) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    for (std::size_t j = 0; j < contestants.size(); ++j) {
      contestants[(i + j) % contestants.size()].run.step_forced(tokens[i]);
    }
  }
}

std::vector<Contestant> make_contestants(Engine& engine, std::vector<Choice> const& choices) {
  std::vector<Contestant> contestants;
  Choice const plain = find_preset("Plain");
  contestants.push_back({plain, "plain", engine.make_plain_run()});
  for (Choice const& choice : choices) {
    if (choice.preset != plain.preset) {
      contestants.push_back({choice, choice.label, engine.make_run(choice)});
    }
  }
  return contestants;
}

void put_depth(Json& json, Speed const& speed, Speed const& plain, Speed const& first,
               RunSummary const& summary) {
  json.append("decode_tokens_per_second", speed.tokens_per_second);
  json.append("plain_decode_tokens_per_second", plain.tokens_per_second);
  json.append("ratio_to_plain", speed.tokens_per_second / plain.tokens_per_second);
  json.append("ratio_to_first_depth", speed.tokens_per_second / first.tokens_per_second);
  json.append("milliseconds_per_token", speed.milliseconds);
  json.append("attend_milliseconds_per_token", speed.attend_milliseconds);
  json.append("advance_milliseconds_per_token", speed.advance_milliseconds);
  json.append("advance_share", speed.advance_milliseconds / speed.milliseconds);
  json.append("plain_attend_milliseconds_per_token", plain.attend_milliseconds);
  json.append("plain_advance_milliseconds_per_token", plain.advance_milliseconds);
  json.append("touched_bytes_per_token", speed.touched_bytes);
  json.append("touched_bytes_per_second", speed.bytes_per_second());
  json.append("exact_fraction_mean", summary.exact_fraction_mean);
  json.append("compact_fraction_mean", summary.compact_fraction_mean);
  json.append("resident_fraction_mean", summary.resident_fraction_mean);
  json.append("touched_fraction_mean", summary.touched_fraction_mean);
  json.append("moved_bytes_per_step_mean", summary.moved_bytes_per_step_mean);
}

}  // namespace

void bench(BenchOptions const& o) {
  std::vector<Choice> const choices = find_choices(o.common.preset);
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  std::vector<int> depths = parse_list(o.depths, "--depths", 0, 1 << 24);
  std::sort(depths.begin(), depths.end());
  int const steps = o.warm_up + o.tokens;
  int const needed = depths.back() + steps;
  if (needed > o.common.context) {
    throw UserError("the depth " + std::to_string(depths.back()) + " and " + std::to_string(steps) +
                    " tokens do not fit --context " + std::to_string(o.common.context));
  }
  Engine engine(o.common);
  std::vector<int> const tokens = read_tokens(engine, o, needed);
  std::vector<Contestant> contestants = make_contestants(engine, choices);
  for (Contestant& c : contestants) {
    c.json.put("command", "bench");
    engine.put_settings(c.json, c.choice);
    c.json.put("generated_tokens", o.tokens);
    c.json.put("warm_up_tokens", o.warm_up);
    c.json.put("depths", depths);
  }

  struct Line {
    std::vector<std::string> cells;
    double bytes_per_second;
  };

  std::vector<Line> lines;
  Bandwidth bandwidth(o.common.threads);
  Progress progress("bench");
  for (int const depth : depths) {
    fill(contestants, tokens, depth, [&](int have) {
      // Attention makes the time of a prefill grow with the depth, roughly so.
      double const share = static_cast<double>(have) / static_cast<double>(needed);
      progress.show(share * (1.0 + share) / 2.0);
    });
    for (int i = 0; i < bandwidth_passes; ++i) {
      bandwidth.pass();
    }
    auto const text = std::span(tokens).subspan(static_cast<std::size_t>(depth));
    decode(contestants, text.first(static_cast<std::size_t>(o.warm_up)));
    decode(contestants,
           text.subspan(static_cast<std::size_t>(o.warm_up), static_cast<std::size_t>(o.tokens)));
    Speed plain;
    for (Contestant& c : contestants) {
      bool const is_plain = &c == &contestants.front();
      auto const measured = std::span(c.run.steps()).last(static_cast<std::size_t>(o.tokens));
      Speed const speed = speed_of(measured);
      RunSummary const s = summarise(measured);
      c.first = depth == depths.front() ? speed : c.first;
      plain = is_plain ? speed : plain;
      put_depth(c.json, speed, plain, c.first, s);
      lines.push_back(
          {{is_plain ? std::to_string(depth) : "", c.label,
            format_number(speed.tokens_per_second, 1),
            format_number(speed.tokens_per_second / plain.tokens_per_second, 3),
            format_number(speed.tokens_per_second / c.first.tokens_per_second, 3),
            format_number(speed.milliseconds, 2), format_number(speed.rest_milliseconds(), 2),
            format_number(speed.attend_milliseconds, 3),
            format_number(speed.advance_milliseconds, 3),
            format_percent(speed.advance_milliseconds / speed.milliseconds),
            format_bytes(speed.touched_bytes), format_number(1e-9 * speed.bytes_per_second(), 1),
            "", format_percent(s.exact_fraction_mean), format_percent(s.compact_fraction_mean),
            format_percent(s.resident_fraction_mean)},
           speed.bytes_per_second()});
      c.run.truncate(depth);
    }
  }
  progress.finish();

  std::vector<std::vector<std::string>> table{
      {"depth", "cache", "tok/s", "of plain", "of depth " + std::to_string(depths.front()),
       "ms/token", "model ms", "attend ms", "advance ms", "share", "touched", "GB/s", "of memory",
       "exact", "compact", "resident"}};
  for (Line& line : lines) {
    line.cells[12] = format_percent(line.bytes_per_second / bandwidth.best());
    table.push_back(line.cells);
  }
  std::printf("medians of %d tokens after %d; memory is read at %.1f GB/s\n\n", o.tokens, o.warm_up,
              1e-9 * bandwidth.best());
  print_table(table);
  double const plain_prefill = summarise(contestants.front().run.steps()).prefill_tokens_per_second;
  std::vector<std::vector<std::string>> prefill{{"cache", "prefill tok/s", "of plain"}};
  std::vector<Json> all;
  for (Contestant& c : contestants) {
    double const own = summarise(c.run.steps()).prefill_tokens_per_second;
    prefill.push_back({c.label, format_number(own, 1), format_number(own / plain_prefill, 3)});
    c.json.put("prefill_tokens_per_second", own);
    c.json.put("plain_prefill_tokens_per_second", plain_prefill);
    c.json.put("memory_bytes_per_second", bandwidth.best());
    all.push_back(c.json);
  }
  if (depths.back() > 0) {
    std::printf("\n");
    print_table(prefill);
  }
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json_text(all));
  }
}

}  // namespace llama
