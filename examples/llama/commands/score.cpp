#include "../scoring.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

namespace llama {

namespace {

/// How a candidate's divergence compares with another's at the same places.
struct Relative {
  double ratio;
  Interval interval;
};

/// The candidate that `--yardstick` names, by label or else by preset.
std::size_t find_yardstick(std::vector<Choice> const& choices, std::string const& name) {
  auto const index_where = [&](auto const& matches) {
    return static_cast<std::size_t>(std::find_if(choices.begin(), choices.end(), matches) -
                                    choices.begin());
  };
  std::size_t const by_label = index_where([&](Choice const& c) { return c.label == name; });
  if (by_label < choices.size()) {
    return by_label;
  }
  Preset const* const preset = &find_preset(name);
  return index_where([&](Choice const& c) { return c.preset == preset; });
}

std::optional<Relative> relative(Candidate const& candidate, Candidate const* yardstick) {
  if (yardstick == nullptr) {
    return {};
  }
  std::vector<double> const own = divergences(candidate.predictions);
  std::vector<double> const others = divergences(yardstick->predictions);
  return Relative{
      summarise(candidate.predictions).kl_mean / summarise(yardstick->predictions).kl_mean,
      bootstrap_ratio(own, others)};
}

Json figures(Engine const& engine, ScoreOptions const& o, std::string const& text,
             Candidate const& candidate, RunSummary const& plain, Candidate const* yardstick) {
  RunSummary const summary = summarise(candidate.run.steps());
  Quality const quality = summarise(candidate.predictions);
  Json json;
  json.put("command", "score");
  engine.put_settings(json, candidate.choice);
  json.put("text", text);
  json.put("offset_bytes", o.offset);
  json.put("chunks", o.chunks);
  json.put("from_position", o.from);
  json.put("scored_positions", quality.positions);
  json.put("generated_tokens", 0);
  put_figures(json, summary);
  put_figures(json, quality);
  if (auto const r = relative(candidate, yardstick)) {
    json.put("yardstick", yardstick->choice.label);
    json.put("kl_ratio", r->ratio);
    json.put("kl_ratio_low", r->interval.low);
    json.put("kl_ratio_high", r->interval.high);
  }
  json.put("seconds_per_token", 1.0 / summary.decode_tokens_per_second);
  json.put("seconds_per_token_plain", 1.0 / plain.decode_tokens_per_second);
  json.put("plain_decode_tokens_per_second", plain.decode_tokens_per_second);
  json.put("plain_prefill_tokens_per_second", plain.prefill_tokens_per_second);
  return json;
}

/// The columns that are the same for the plain cache.
void add_columns(std::vector<std::string>& row, RunSummary const& s) {
  for (std::string const& cell :
       {format_percent(s.exact_fraction_mean), format_percent(s.compact_fraction_mean),
        format_percent(s.resident_fraction_mean), format_percent(s.resident_fraction_peak),
        format_percent(s.touched_fraction_mean), format_bytes(s.moved_bytes_per_step_mean),
        format_number(s.prefill_tokens_per_second, 0),
        format_number(1e3 / s.decode_tokens_per_second, 2)}) {
    row.push_back(cell);
  }
}

std::vector<std::string> table_row(Candidate const& candidate, Candidate const* yardstick) {
  Quality const q = summarise(candidate.predictions);
  std::vector<std::string> row{candidate.choice.label,
                               format_number(q.perplexity, 4),
                               format_number(q.perplexity_ratio, 4),
                               format_small(q.kl_mean),
                               format_range(q.kl_low, q.kl_high),
                               format_small(q.kl_p99)};
  if (auto const r = relative(candidate, yardstick)) {
    row.push_back(format_number(r->ratio, 2));
    row.push_back(format_range(r->interval.low, r->interval.high,
                               [](double x) { return format_number(x, 2); }));
  }
  row.push_back(format_percent(q.top1_agreement));
  add_columns(row, summarise(candidate.run.steps()));
  return row;
}

void print_scores(std::vector<Candidate> const& candidates, RunSummary const& plain,
                  Candidate const* yardstick) {
  std::vector<std::string> head{"cache", "perplexity", "ratio", "KL (nats)", "95 %", "99th pct"};
  std::vector<std::string> first{
      "plain", format_number(summarise(candidates.front().predictions).perplexity_plain, 4),
      "1",     "0",
      "-",     "0"};
  if (yardstick != nullptr) {
    head.insert(head.end(), {"of yardstick", "95 %"});
    first.insert(first.end(), {"0", "-"});
  }
  head.insert(head.end(), {"top-1", "exact", "compact", "resident", "peak", "touched", "moved/step",
                           "prefill tok/s", "ms/token"});
  first.emplace_back("100.0 %");
  add_columns(first, plain);
  std::vector<std::vector<std::string>> table{head, first};
  for (Candidate const& candidate : candidates) {
    table.push_back(table_row(candidate, yardstick));
  }
  print_table(table);
}

}  // namespace

void score(ScoreOptions const& o) {
  std::vector<Choice> choices = find_choices(o.common.preset);
  std::size_t yardstick_at = choices.size();
  if (!o.yardstick.empty()) {
    yardstick_at = find_yardstick(choices, o.yardstick);
    if (yardstick_at == choices.size()) {
      choices.emplace_back(find_preset(o.yardstick));
    }
  }
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  if (o.from >= o.common.context) {
    throw UserError("--from " + std::to_string(o.from) + " leaves nothing of --context " +
                    std::to_string(o.common.context));
  }
  Engine engine(o.common);
  std::vector<std::string> const texts = split(o.text, ',');
  std::vector<std::vector<std::vector<int>>> pieces;
  for (std::string const& text : texts) {
    pieces.push_back(read_pieces(engine, text, o.offset, o.common.context, o.chunks));
  }
  std::vector<Json> all;
  Progress progress("score");
  double const share = 1.0 / static_cast<double>(texts.size() * pieces[0].size());
  for (std::size_t t = 0; t < texts.size(); ++t) {
    Run plain = engine.make_plain_run();
    std::vector<Candidate> candidates;
    for (Choice const& choice : choices) {
      candidates.push_back({choice, engine.make_run(choice), {}});
    }
    for (std::size_t i = 0; i < pieces[t].size(); ++i) {
      double const before = share * static_cast<double>(t * pieces[t].size() + i);
      score_piece(pieces[t][i], o.from, plain, candidates,
                  [&](double part) { progress.show(before + share * part); });
    }
    progress.finish();
    Candidate const* const yardstick =
        yardstick_at < candidates.size() ? &candidates[yardstick_at] : nullptr;
    RunSummary const plain_summary = summarise(plain.steps());
    std::printf("%s%zu positions from %d on, %d x %d tokens of %s, weights %s", t > 0 ? "\n" : "",
                candidates.front().predictions.size(), o.from, o.chunks, o.common.context,
                texts[t].c_str(), std::string(weight_type_name(o.common.weights)).c_str());
    if (yardstick != nullptr) {
      std::printf("; the yardstick is %s", yardstick->choice.label.c_str());
    }
    std::printf("\n\n");
    print_scores(candidates, plain_summary, yardstick);
    for (Candidate const& candidate : candidates) {
      all.push_back(figures(engine, o, texts[t], candidate, plain_summary, yardstick));
    }
  }
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json_text(all));
  }
}

}  // namespace llama
