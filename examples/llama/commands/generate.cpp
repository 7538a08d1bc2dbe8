#include "../charts.hpp"
#include "../engine.hpp"
#include "../generation.hpp"
#include "../prose.hpp"
#include "../quality.hpp"
#include "../report_html.hpp"
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

constexpr std::string_view system_message =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

std::string read_prompt(GenerateOptions const& o) {
  if (!o.prompt_file.empty()) {
    return read_text_file(o.prompt_file);
  }
  return o.prompt.empty() ? std::string(default_prompt) : o.prompt;
}

int control_token(Tokenizer const& tokenizer, std::string_view name) {
  if (auto const token = tokenizer.control(name)) {
    return *token;
  }
  throw UserError("--chat: the model has no token " + std::string(name));
}

/// The prompt's tokens; as a chat in the ChatML form that the model was trained on.
std::vector<int> encode_prompt(Tokenizer const& tokenizer, std::string const& prompt, bool chat) {
  if (!chat) {
    return tokenizer.encode(prompt);
  }
  int const begin = control_token(tokenizer, "<|im_start|>");
  int const end = control_token(tokenizer, "<|im_end|>");
  std::vector<int> tokens;
  auto const add = [&](std::string const& text) {
    std::vector<int> const more = tokenizer.encode(text);
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  tokens.push_back(begin);
  add("system\n" + std::string(system_message));
  tokens.push_back(end);
  add("\n");
  tokens.push_back(begin);
  add("user\n" + prompt);
  tokens.push_back(end);
  add("\n");
  tokens.push_back(begin);
  add("assistant\n");
  return tokens;
}

/// Tokens with which the model ends a text.
std::vector<int> end_tokens(Tokenizer const& tokenizer) {
  std::vector<int> tokens;
  for (char const* name : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    if (auto const token = tokenizer.control(name)) {
      tokens.push_back(*token);
    }
  }
  return tokens;
}

/// Generates, and shows the text as it comes.
void write_live(Tokenizer const& tokenizer, Generation& generation, int tokens) {
  generation.read_prompt();
  LiveText live(tokens);
  generation.run([&](Generation::Event const& event) {
    live.show(tokenizer.decode(event.token), event.report, event.generated,
              event.tokens_per_second);
    if (event.taken_back > 0) {
      live.show_rewind(event.taken_back);
    }
  });
  live.finish();
}

FidelityMap read_fidelities(Engine const& engine, Run& run) {
  FidelityMap map{.layers = engine.shape().layers,
                  .lanes_per_layer = run.cache().lanes_per_layer(),
                  .length = run.cache().length(),
                  .cells = {}};
  std::size_t const length = static_cast<std::size_t>(map.length);
  std::size_t const lanes = static_cast<std::size_t>(map.layers * map.lanes_per_layer);
  map.cells.resize(lanes * length);
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    int const index = static_cast<int>(lane);
    run.cache().fidelities(index / map.lanes_per_layer, index % map.lanes_per_layer,
                           std::span(map.cells).subspan(lane * length, length));
  }
  return map;
}

std::string recoveries_text(RunSummary const& s) {
  std::string text;
  for (auto const level : {kvfreeze::Recovery::soft, kvfreeze::Recovery::window,
                           kvfreeze::Recovery::full, kvfreeze::Recovery::rewalk}) {
    text += (text.empty() ? "" : " ") + std::string(recovery_name(level)) + " " +
            std::to_string(s.recoveries[static_cast<std::size_t>(level)]);
  }
  return text;
}

/// The figures of a preset, and beside them those of the plain cache where there are any.
std::vector<std::vector<std::string>> summary_table(Choice const& choice, RunSummary const& s,
                                                    std::optional<RunSummary> const& plain,
                                                    Quality const& quality, std::size_t cap_bytes) {
  std::vector<std::vector<std::string>> table{{"", choice.label}};
  std::vector<std::string> beside{"plain cache"};
  auto const add = [&](char const* what, std::string value, std::string plain_value) {
    table.push_back({what, std::move(value)});
    beside.push_back(std::move(plain_value));
  };
  RunSummary const p = plain.value_or(RunSummary{});
  auto const bytes = [](std::size_t n) { return format_bytes(static_cast<double>(n)); };
  add("decode, tokens/s", format_number(s.decode_tokens_per_second, 1),
      format_number(p.decode_tokens_per_second, 1));
  add("attention and cache, ms/token",
      format_number(1e3 * (s.attend_seconds_per_token + s.advance_seconds_per_token), 2),
      format_number(1e3 * (p.attend_seconds_per_token + p.advance_seconds_per_token), 2));
  add("resident at the end", bytes(s.ledger.resident()), bytes(p.ledger.resident()));
  if (cap_bytes != kvfreeze::unlimited) {
    add("cap on resident bytes", bytes(cap_bytes), "none");
  }
  add("resident, of a full cache, mean", format_percent(s.resident_fraction_mean),
      format_percent(p.resident_fraction_mean));
  add("in the tier at the end", bytes(s.ledger.tier), bytes(p.ledger.tier));
  add("exact rows, mean", format_percent(s.exact_fraction_mean),
      format_percent(p.exact_fraction_mean));
  add("bytes read, of a full cache, mean", format_percent(s.touched_fraction_mean),
      format_percent(p.touched_fraction_mean));
  add("moved per step, mean", format_bytes(s.moved_bytes_per_step_mean),
      format_bytes(p.moved_bytes_per_step_mean));
  add("triggers", recoveries_text(s), "-");
  if (plain) {
    add("perplexity of the text", format_number(quality.perplexity, 4),
        format_number(quality.perplexity_plain, 4));
    add("perplexity ratio", format_number(quality.perplexity_ratio, 4), "1");
    add("KL from the plain cache, nats", format_small(quality.kl_mean), "0");
    add("same likeliest token", format_percent(quality.top1_agreement), "100.0 %");
    for (std::size_t i = 0; i < table.size(); ++i) {
      table[i].push_back(beside[i]);
    }
  } else {
    table.push_back({"full cache at the end", bytes(s.full_bytes)});
  }
  return table;
}

Json figures(Engine const& engine, Choice const& choice, GenerateOptions const& o,
             Generation const& generation, RunSummary const& summary,
             std::optional<RunSummary> const& plain, std::string const& text) {
  Json json;
  json.put("command", "generate");
  engine.put_settings(json, choice);
  json.put("prompt_tokens", generation.prompt().size());
  json.put("generated_tokens", generation.generated().size());
  json.put("temperature", o.sampler.temperature);
  json.put("top_p", o.sampler.top_p);
  json.put("repeat_penalty", o.sampler.repeat_penalty);
  json.put("seed", o.seed);
  json.put("seconds_to_first_token", generation.seconds_to_first_token());
  put_figures(json, summary);
  if (plain) {
    put_figures(json, generation.quality());
    json.put("plain_prefill_tokens_per_second", plain->prefill_tokens_per_second);
    json.put("plain_decode_tokens_per_second", plain->decode_tokens_per_second);
    json.put("plain_attend_seconds_per_token", plain->attend_seconds_per_token);
    json.put("plain_resident_bytes_peak", plain->resident_bytes_peak);
  } else {
    for (char const* key :
         {"perplexity_plain", "perplexity", "perplexity_ratio", "kl_mean", "top1_agreement"}) {
      json.put(key, nullptr);  // only --compare knows
    }
  }
  json.put("generated_text", text);
  return json;
}

}  // namespace

void generate(GenerateOptions const& options) {
  GenerateOptions o = options;
  Choice const choice = find_choice(o.common.preset);
  for (std::string const& file : {o.common.json, o.html}) {
    if (!file.empty()) {
      check_writable(file);
    }
  }
  bool const own_prompt = !o.prompt.empty() || !o.prompt_file.empty();
  o.chat = o.chat || !own_prompt;  // the built-in prompt is a question
  std::string const prompt = read_prompt(o);

  Engine engine(o.common);
  std::vector<int> const tokens = encode_prompt(engine.tokenizer(), prompt, o.chat);
  if (tokens.empty()) {
    throw UserError("the prompt is empty");
  }
  if (tokens.size() + static_cast<std::size_t>(o.tokens) >
      static_cast<std::size_t>(o.common.context)) {
    throw UserError("the prompt's " + std::to_string(tokens.size()) + " tokens and --tokens " +
                    std::to_string(o.tokens) + " do not fit --context " +
                    std::to_string(o.common.context));
  }
  std::optional<Run> beside;
  if (o.compare) {
    beside = engine.make_plain_run();
  }
  Generation generation({.tokens = o.tokens,
                         .sampler = o.sampler,
                         .seed = o.seed,
                         .rewalk_temperature = o.rewalk_temperature,
                         .max_rewalks = o.max_rewalks,
                         .ends = end_tokens(engine.tokenizer()),
                         .stop_at_end = o.stop_at_end},
                        tokens, engine.make_run(choice), std::move(beside));
  write_live(engine.tokenizer(), generation, o.tokens);

  RunSummary const summary = summarise(generation.preset_run().steps());
  std::optional<RunSummary> plain;
  if (generation.plain_run()) {
    plain = summarise(generation.plain_run()->steps());
  }
  std::span<int const> const generated = generation.generated();
  Utf8Stream characters;
  std::string const text = characters.push(engine.tokenizer().decode(generated));
  auto const table =
      summary_table(choice, summary, plain, generation.quality(), engine.cap_bytes(choice));
  std::printf("\n%zu tokens after a prompt of %zu; first token after %.2f s\n\n", generated.size(),
              tokens.size(), generation.seconds_to_first_token());
  print_table(table);
  if (plain && o.common.weights == WeightType::file && generation.quality().kl_mean > 0.0) {
    std::printf(
        "\nUp to 0.003 nats of the KL is ggml's own rounding; --weights f32 shows the cache "
        "alone.\n");
  }
  if (!o.common.json.empty()) {
    write_text_file(o.common.json,
                    figures(engine, choice, o, generation, summary, plain, text).text());
  }
  if (!o.html.empty()) {
    write_text_file(o.html, render_html({.title = "kvfreeze: " + std::to_string(generated.size()) +
                                                  " tokens through " + choice.label,
                                         .table = table,
                                         .prompt = prompt,
                                         .text = text,
                                         .steps = generation.preset_run().steps(),
                                         .cap_bytes = engine.cap_bytes(choice),
                                         .map = read_fidelities(engine, generation.preset_run())}));
    std::printf("\nreport: %s\n", std::filesystem::absolute(o.html).c_str());
  }
}

}  // namespace llama
