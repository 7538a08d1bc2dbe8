#include "../engine.hpp"
#include "../quality.hpp"
#include "../status.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "commands.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace llama {

namespace {

/// A preset under test: what it makes of the text, beside what the plain cache makes of it.
struct Candidate {
  Preset const* preset;
  Run run;
  std::vector<Prediction> predictions;
};

/// "A,B" -> the two presets.
std::vector<Preset const*> find_presets(std::string_view names) {
  std::vector<Preset const*> found;
  while (true) {
    std::size_t const comma = names.find(',');
    found.push_back(&find_preset(names.substr(0, comma)));
    if (comma == std::string_view::npos) {
      return found;
    }
    names.remove_prefix(comma + 1);
  }
}

/// The pieces of the text that are scored.
std::vector<std::vector<int>> read_chunks(Engine const& engine, ScoreOptions const& o,
                                          std::string_view text) {
  auto const context = static_cast<std::size_t>(o.common.context);
  std::size_t const needed = context * static_cast<std::size_t>(o.chunks);
  std::vector<int> const tokens = engine.tokenizer().encode(text);
  if (tokens.size() < needed) {
    throw UserError("the text '" + o.text + "' has " + std::to_string(tokens.size()) +
                    " tokens from byte " + std::to_string(o.offset) + " on, but " +
                    std::to_string(needed) + " are needed (--context x --chunks)");
  }
  std::vector<std::vector<int>> chunks;
  for (std::size_t at = 0; at < needed; at += context) {
    auto const first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
    chunks.emplace_back(first, first + static_cast<std::ptrdiff_t>(context));
  }
  return chunks;
}

/// Feeds one piece to the plain cache and to all candidates, step by step beside each other.
void score_chunk(std::vector<int> const& chunk, int from, Run& plain,
                 std::vector<Candidate>& candidates, Progress& progress, double done,
                 double share) {
  std::span<int const> const tokens = chunk;
  auto const start = static_cast<std::size_t>(from);
  plain.restart();
  plain.prefill(tokens.first(start));
  for (Candidate& candidate : candidates) {
    candidate.run.restart();
    candidate.run.prefill(tokens.first(start));
  }
  for (std::size_t at = start; at < tokens.size(); ++at) {
    bool const last = at + 1 == tokens.size();
    for (Candidate& candidate : candidates) {
      candidate.predictions.push_back(
          compare_logits(plain.logits(), candidate.run.logits(), tokens[at]));
      if (!last) {
        candidate.run.step_forced(tokens[at]);
      }
    }
    if (!last) {
      plain.step_forced(tokens[at]);
    }
    progress.show(done + share * static_cast<double>(at) / static_cast<double>(tokens.size()));
  }
}

Json figures(Engine const& engine, ScoreOptions const& o, Candidate const& candidate,
             RunSummary const& plain) {
  RunSummary const summary = summarise(candidate.run.steps());
  Quality const quality = summarise(candidate.predictions);
  Json json;
  json.put("command", "score");
  engine.put_settings(json, *candidate.preset);
  json.put("text", o.text);
  json.put("offset_bytes", o.offset);
  json.put("chunks", o.chunks);
  json.put("from_position", o.from);
  json.put("scored_positions", quality.positions);
  json.put("generated_tokens", 0);
  put_figures(json, summary);
  put_figures(json, quality);
  json.put("seconds_per_token", 1.0 / summary.decode_tokens_per_second);
  json.put("seconds_per_token_plain", 1.0 / plain.decode_tokens_per_second);
  json.put("plain_decode_tokens_per_second", plain.decode_tokens_per_second);
  json.put("plain_prefill_tokens_per_second", plain.prefill_tokens_per_second);
  return json;
}

std::vector<std::string> table_row(Candidate const& candidate) {
  RunSummary const s = summarise(candidate.run.steps());
  Quality const q = summarise(candidate.predictions);
  return {std::string(candidate.preset->name),
          format_number(q.perplexity, 4),
          format_number(q.perplexity_ratio, 4),
          format_small(q.kl_mean),
          format_percent(q.top1_agreement),
          format_percent(s.exact_fraction_mean),
          format_percent(s.exact_fraction_peak),
          format_percent(s.resident_fraction_mean),
          format_percent(s.resident_fraction_peak),
          format_percent(s.touched_fraction_mean),
          format_bytes(s.moved_bytes_per_step_mean),
          format_number(1e3 / s.decode_tokens_per_second, 2)};
}

}  // namespace

void score(ScoreOptions const& o) {
  std::vector<Preset const*> const chosen = find_presets(o.common.preset);
  if (!o.common.json.empty()) {
    check_writable(o.common.json);
  }
  if (o.from >= o.common.context) {
    throw UserError("--from " + std::to_string(o.from) + " leaves nothing of --context " +
                    std::to_string(o.common.context));
  }
  std::string const text = read_text_file(o.text);
  if (o.offset >= text.size()) {
    throw UserError("--offset " + std::to_string(o.offset) + " is past the end of '" + o.text +
                    "' (" + std::to_string(text.size()) + " bytes)");
  }
  Engine engine(o.common);
  auto const chunks = read_chunks(engine, o, std::string_view(text).substr(o.offset));

  Run plain = engine.make_plain_run();
  std::vector<Candidate> candidates;
  for (Preset const* const preset : chosen) {
    candidates.push_back({preset, engine.make_run(*preset), {}});
  }
  Progress progress("score");
  double const share = 1.0 / static_cast<double>(chunks.size());
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    score_chunk(chunks[i], o.from, plain, candidates, progress, static_cast<double>(i) * share,
                share);
  }
  progress.finish();

  RunSummary const plain_summary = summarise(plain.steps());
  Quality const quality = summarise(candidates.front().predictions);
  std::printf("%zu positions from %d on, %d x %d tokens of %s, weights %s\n\n", quality.positions,
              o.from, o.chunks, o.common.context, o.text.c_str(),
              std::string(weight_type_name(o.common.weights)).c_str());
  std::vector<std::vector<std::string>> table{{"cache", "perplexity", "ratio", "KL (nats)", "top-1",
                                               "exact", "peak", "resident", "peak", "touched",
                                               "moved/step", "ms/token"}};
  table.push_back({"plain", format_number(quality.perplexity_plain, 4), "1", "0", "100.0 %",
                   "100.0 %", "100.0 %", format_percent(plain_summary.resident_fraction_mean),
                   format_percent(plain_summary.resident_fraction_peak),
                   format_percent(plain_summary.touched_fraction_mean), "0 B",
                   format_number(1e3 / plain_summary.decode_tokens_per_second, 2)});
  std::vector<Json> all;
  for (Candidate const& candidate : candidates) {
    table.push_back(table_row(candidate));
    all.push_back(figures(engine, o, candidate, plain_summary));
  }
  print_table(table);
  if (!o.common.json.empty()) {
    write_text_file(o.common.json, json_text(all));
  }
}

}  // namespace llama
