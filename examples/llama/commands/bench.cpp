#include "../engine.hpp"
#include "../prose.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace llama {

namespace {

/// Medians over the tokens decoded at one depth.
struct Speed {
  double tokens_per_second;
  double attend_milliseconds;
  double advance_milliseconds;
};

Speed speed_of(std::span<Step const> steps) {
  std::vector<double> total;
  std::vector<double> attend;
  std::vector<double> advance;
  for (Step const& step : steps) {
    total.push_back(step.seconds);
    attend.push_back(1e3 * step.attend_seconds);
    advance.push_back(1e3 * step.advance_seconds);
  }
  return {1.0 / median(total), median(attend), median(advance)};
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

/// Fills a cache up to a depth, from where it is.
void fill(Run& run, std::vector<int> const& tokens, int depth) {
  std::size_t const have = run.tokens().size();
  run.prefill(std::span(tokens).subspan(have, static_cast<std::size_t>(depth) - have));
}

}  // namespace

void bench(BenchOptions const& o) {
  Preset const& preset = find_preset(o.common.preset);
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  std::vector<int> depths = parse_list(o.depths, "--depths", 0, 1 << 24);
  std::sort(depths.begin(), depths.end());
  int const needed = depths.back() + o.tokens;
  if (needed > o.common.context) {
    throw UserError("the depth " + std::to_string(depths.back()) + " and " +
                    std::to_string(o.tokens) + " tokens do not fit --context " +
                    std::to_string(o.common.context));
  }
  Engine engine(o.common);
  std::vector<int> const tokens = read_tokens(engine, o, needed);
  Run plain = engine.make_plain_run();
  Run run = engine.make_run(preset);

  Json json;
  json.put("command", "bench");
  engine.put_settings(json, preset);
  json.put("generated_tokens", o.tokens);
  json.put("depths", depths);
  std::vector<std::vector<std::string>> table{
      {"depth", "plain tok/s", std::string(preset.name) + " tok/s", "ratio", "plain attend ms",
       "attend ms", "advance ms", "exact", "resident"}};
  Progress progress("bench");
  for (int const depth : depths) {
    fill(plain, tokens, depth);
    fill(run, tokens, depth);
    std::size_t const first_plain = plain.steps().size();
    std::size_t const first = run.steps().size();
    // The two take turns, so that a busy machine slows both alike.
    for (int i = 0; i < o.tokens; ++i) {
      int const token = tokens[static_cast<std::size_t>(depth + i)];
      plain.step_forced(token);
      run.step_forced(token);
    }
    std::span<Step const> const steps = std::span(run.steps()).subspan(first);
    Speed const slow = speed_of(std::span(plain.steps()).subspan(first_plain));
    Speed const fast = speed_of(steps);
    RunSummary const summary = summarise(steps);
    plain.truncate(depth);
    run.truncate(depth);
    progress.show(static_cast<double>(depth) / static_cast<double>(std::max(depths.back(), 1)));

    table.push_back(
        {std::to_string(depth), format_number(slow.tokens_per_second, 1),
         format_number(fast.tokens_per_second, 1),
         format_number(fast.tokens_per_second / slow.tokens_per_second, 3),
         format_number(slow.attend_milliseconds, 3), format_number(fast.attend_milliseconds, 3),
         format_number(fast.advance_milliseconds, 3), format_percent(summary.exact_fraction_mean),
         format_percent(summary.resident_fraction_mean)});
    json.append("plain_decode_tokens_per_second", slow.tokens_per_second);
    json.append("decode_tokens_per_second", fast.tokens_per_second);
    json.append("plain_attend_milliseconds_per_token", slow.attend_milliseconds);
    json.append("attend_milliseconds_per_token", fast.attend_milliseconds);
    json.append("plain_advance_milliseconds_per_token", slow.advance_milliseconds);
    json.append("advance_milliseconds_per_token", fast.advance_milliseconds);
    json.append("exact_fraction_mean", summary.exact_fraction_mean);
    json.append("resident_fraction_mean", summary.resident_fraction_mean);
    json.append("touched_fraction_mean", summary.touched_fraction_mean);
    json.append("moved_bytes_per_step_mean", summary.moved_bytes_per_step_mean);
  }
  progress.finish();
  json.put("prefill_tokens_per_second", summarise(run.steps()).prefill_tokens_per_second);
  json.put("plain_prefill_tokens_per_second", summarise(plain.steps()).prefill_tokens_per_second);
  print_table(table);
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json.text());
  }
}

}  // namespace llama
