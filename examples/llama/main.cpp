#include <kvfreeze/error.hpp>

#include "commands/commands.hpp"
#include "user_error.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int exit_bad_input = 2;
constexpr int exit_interrupted = 130;
constexpr std::array<std::string_view, 10> commands{"generate",  "score", "tune",  "passkey",
                                                    "needles",   "lab",   "bench", "record",
                                                    "calibrate", "check"};

void add_weights(CLI::App& app, llama::CommonOptions& o) {
  app.add_option_function<std::string>(
         "--weights", [&o](std::string const& name) { o.weights = llama::parse_weight_type(name); },
         "numbers of the matrices: as in the file, or unpacked to f16 or f32")
      ->check(CLI::IsMember({"file", "f16", "f32"}))
      ->default_str(std::string(llama::weight_type_name(o.weights)));
}

void add_common(CLI::App& app, llama::CommonOptions& o) {
  app.add_option("--model", o.model, "GGUF file of a Llama-architecture model")
      ->envname("KVFREEZE_MODEL")
      ->required();
  app.add_option("--preset", o.preset,
                 "cache (--list-presets) with its own settings, KvFreeze:resident=0.2,stay=8; "
                 "or several, A;B:window=64")
      ->capture_default_str();
  auto* const fraction =
      app.add_option("--resident", o.resident,
                     "cap on resident bytes, as a fraction of a 16-bit cache of --context tokens")
          ->check([](std::string const& text) {
            double value = 0.0;
            bool const good = CLI::detail::lexical_cast(text, value) && value > 0.0 && value <= 1.0;
            return good ? std::string() : "'" + text + "' is not a fraction in (0, 1]";
          });
  app.add_option("--resident-bytes", o.resident_bytes, "cap on resident bytes")
      ->check(CLI::PositiveNumber)
      ->excludes(fraction);
  app.add_option("--missed-mass", o.missed_mass,
                 "attention mass that a lane may miss (water-level scheduler)")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option_function<std::string>(
         "--tier",
         [&o](std::string const& name) {
           o.tier = name == "host" ? llama::TierChoice::host : llama::TierChoice::in_place;
         },
         "where frozen rows live")
      ->check(CLI::IsMember({"host", "in-place"}))
      ->default_str("host");
  add_weights(app, o);
  app.add_option("--sinks", o.sinks, "first tokens, always exact")->check(CLI::Range(0, 1 << 20));
  app.add_option("--window", o.window, "last tokens, always exact")->check(CLI::Range(0, 1 << 20));
  app.add_option("--context", o.context, "the most tokens that the cache takes")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option(
         "--prefill-chunk", o.prefill_chunk,
         "tokens of a prefill step; its rows are exact, so that a low cap wants a small one")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--threads", o.threads, "threads of the model")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--json", o.json, "write every figure to this file");
}

void add_generate(CLI::App& app, llama::GenerateOptions& o) {
  add_common(app, o.common);
  auto* const prompt = app.add_option("--prompt", o.prompt, "text to go on from");
  app.add_option("--prompt-file", o.prompt_file, "file with that text")->excludes(prompt);
  app.add_flag("--chat", o.chat, "wrap the prompt as a question to the assistant");
  app.add_option("--tokens", o.tokens, "tokens to generate")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_flag("--stop-at-end", o.stop_at_end, "stop where the model ends its text");
  app.add_option("--temperature", o.sampler.temperature, "0 takes the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  app.add_option("--top-p", o.sampler.top_p,
                 "sample from the likeliest tokens of this total probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--repeat-penalty", o.sampler.repeat_penalty,
                 "makes recent tokens less likely; 1 is off")
      ->check(CLI::Range(1.0, 10.0))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "of the sampler")->capture_default_str();
  app.add_option("--rewalk-temperature", o.rewalk_temperature,
                 "temperature after a Rewalk Regeneration (default: half)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--max-rewalks", o.max_rewalks, "then triggers are switched off")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_flag("--compare", o.compare, "run the same text through a plain cache beside it");
  app.add_option("--html", o.html, "write a report with plots to this file")
      ->envname("KVFREEZE_HTML");
}

/// Which pieces of a text are scored.
template <class Options>
void add_pieces(CLI::App& app, Options& o) {
  app.add_option("--chunks", o.chunks, "pieces of --context tokens to score")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--from", o.from, "first position of a piece that counts")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
}

void add_score(CLI::App& app, llama::ScoreOptions& o) {
  add_common(app, o.common);
  app.add_option("--text", o.text, "file to read, or several: a.txt,b.txt")->required();
  app.add_option("--offset", o.offset, "skip so many bytes of it")->capture_default_str();
  app.add_option("--yardstick", o.yardstick,
                 "preset whose KL the others are compared with; scored too if it is not listed");
  add_pieces(app, o);
}

void add_tune(CLI::App& app, llama::TuneOptions& o) {
  add_common(app, o.common);
  app.add_option("--text", o.text, "file to read")->required();
  app.add_option("--offset", o.offset, "skip so many bytes of it")->capture_default_str();
  add_pieces(app, o);
  app.add_option("--knobs", o.knobs,
                 "settings to walk, values in rising order: 'none=0.01,0.02;stay=2,4;"
                 "preset=KvFreeze,ExactRecall' (default: those that the preset has)");
  app.add_option("--beside", o.beside, "presets to put beside, not to be varied")
      ->capture_default_str();
  app.add_option("--search", o.search, "walk along the front, or the whole grid")
      ->check(CLI::IsMember({"front", "grid"}))
      ->capture_default_str();
  app.add_option("--candidates", o.candidates, "the most compositions to score")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--batch", o.batch, "compositions scored side by side in one pass")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--html", o.html, "write the plot to this file")->envname("KVFREEZE_TUNE_HTML");
}

void add_passkey(CLI::App& app, llama::PasskeyOptions& o) {
  add_common(app, o.common);
  app.add_option("--length", o.lengths, "tokens of the text, or several lengths: 1500,4000")
      ->capture_default_str();
  app.add_option("--depths", o.depths, "places of the key, in percent of the text")
      ->capture_default_str();
  app.add_option("--keys", o.keys, "keys for each depth")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "of the keys")->capture_default_str();
}

void add_needles(CLI::App& app, llama::NeedlesOptions& o) {
  add_common(app, o.common);
  app.add_option("--text", o.text, "prose to hide them in (default: built-in)");
  app.add_option("--offset", o.offset, "skip so many bytes of it")->capture_default_str();
  app.add_option("--lengths", o.lengths, "tokens of the texts")->capture_default_str();
  app.add_option("--depths", o.depths, "places of the needles, in percent of the text")
      ->capture_default_str();
  app.add_option("--ask", o.ask, "for each needle, for all at once, or both")
      ->check(CLI::IsMember({"each", "all", "both"}))
      ->capture_default_str();
  app.add_option("--trials", o.trials, "texts of each length")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "of names and numbers")->capture_default_str();
}

void add_lab(CLI::App& app, llama::LabOptions& o) {
  app.add_option("--model", o.common.model, "GGUF file of a Llama-architecture model")
      ->envname("KVFREEZE_MODEL")
      ->required();
  app.add_option("--presets", o.presets,
                 "caches with their own settings, 'SnapKv;KvFreeze:stay=8' (default: all)");
  app.add_option("--resident", o.resident,
                 "shares of a 16-bit cache of the context that may be resident; 'own': no cap")
      ->capture_default_str();
  app.add_option("--contexts", o.contexts, "tokens of text and answer")->capture_default_str();
  app.add_option("--texts", o.texts, "files to read: a.txt,b.txt");
  app.add_option("--offset", o.offset, "skip so many bytes of each")->capture_default_str();
  app.add_option("--chunks", o.chunks, "pieces of each text, for kl and stress")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--tasks", o.tasks, "of kl, passkey, needles, tracking, copy, stress")
      ->capture_default_str();
  app.add_option("--trials", o.trials, "texts of each kind, for the tasks with answers")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--depths", o.depths, "places of the pass key, in percent of the text")
      ->capture_default_str();
  app.add_option("--hops", o.hops, "assignments to follow, for tracking")->capture_default_str();
  app.add_option("--copy-sentences", o.copy_sentences, "of the passage to copy")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--seed", o.seed, "of keys, names and numbers")->capture_default_str();
  app.add_option("--out", o.out,
                 "folder of results.jsonl, report.html and results.md; what is there is gone on "
                 "with")
      ->capture_default_str();
  auto* const dry =
      app.add_flag("--dry-run", o.dry_run, "only list the cells, with a guess how long");
  app.add_flag("--report", o.report, "only write the report from the results there are")
      ->excludes(dry);
  add_weights(app, o.common);
  app.add_option("--sinks", o.common.sinks, "first tokens, always exact")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--window", o.common.window, "last tokens, always exact")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--prefill-chunk", o.common.prefill_chunk, "tokens of a prefill step")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--threads", o.common.threads, "threads of the model")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
}

void add_bench(CLI::App& app, llama::BenchOptions& o) {
  add_common(app, o.common);
  app.add_option("--depths", o.depths, "tokens in the cache, in rising order")
      ->capture_default_str();
  app.add_option("--tokens", o.tokens, "tokens to decode and measure at each depth")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--warm-up", o.warm_up, "tokens to decode at each depth before those")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--text", o.text, "file to fill the cache from (default: built-in prose)");
}

void add_record(CLI::App& app, llama::RecordOptions& o) {
  app.add_option("--model", o.common.model, "GGUF file of a Llama-architecture model")
      ->envname("KVFREEZE_MODEL")
      ->required();
  app.add_option("--text", o.text, "file to read")->required();
  app.add_option("--offset", o.offset, "skip so many bytes of it")->capture_default_str();
  app.add_option("--rows", o.rows, "tokens of it")
      ->check(CLI::Range(256, 1 << 20))
      ->capture_default_str();
  auto* const queries =
      app.add_option("--queries", o.queries, "last rows whose queries are recorded")
          ->check(CLI::Range(1, 4096))
          ->capture_default_str();
  app.add_flag("--steps", o.steps,
               "decode one by one, and record queries and logits of every row: for gpu_replay")
      ->excludes(queries);
  app.add_option("--out", o.out, "file to write")->required();
  app.add_option("--threads", o.common.threads, "threads of the model")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
}

void add_calibrate(CLI::App& app, llama::CalibrateOptions& o) {
  add_common(app, o.common);
  app.add_option("--text", o.text, "file to read")->required();
  app.add_option("--offset", o.offset, "skip so many bytes of it")->capture_default_str();
  app.add_option("--chunks", o.chunks, "pieces of --context tokens")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--measure", o.measure,
                 "entropies of the heads' attention, or ARKV's oq score of the layers")
      ->check(CLI::IsMember({"entropies", "oq"}))
      ->capture_default_str();
  app.add_option("--out", o.out, "file to write")->required();
}

void add_check(CLI::App& app, llama::CheckOptions& o) {
  app.add_option("--model", o.common.model, "GGUF file of a Llama-architecture model")
      ->envname("KVFREEZE_MODEL")
      ->required();
  app.add_option("--text", o.text, "file to read (default: built-in prose)");
  app.add_option("--tokens", o.tokens, "tokens of it that are the prompt")
      ->check(CLI::Range(64, 4096))
      ->capture_default_str();
  app.add_option("--steps", o.steps, "tokens that are decoded one by one after it")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--threads", o.common.threads, "threads of the model")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--json", o.common.json, "write every figure to this file");
}

void list_presets() {
  for (llama::Preset const& preset : llama::presets()) {
    std::printf("%-17s %s\n", std::string(preset.name).c_str(),
                std::string(preset.description).c_str());
  }
}

bool is_command(std::string_view name) {
  return std::find(commands.begin(), commands.end(), name) != commands.end();
}

int run(std::vector<std::string> arguments) {
  bool const bare = arguments.empty();
  bool const names_command = !bare && !arguments[0].starts_with("-");
  if (names_command && !is_command(arguments[0])) {
    throw llama::UserError("unknown command '" + arguments[0] +
                           "'; there are generate, score, tune, passkey, needles, lab, bench, "
                           "record, calibrate, check");
  }
  if (bare || (!names_command && arguments[0] != "--help" && arguments[0] != "-h")) {
    arguments.insert(arguments.begin(), "generate");  // it may be left out
  }
  if (std::find(arguments.begin(), arguments.end(), "--list-presets") != arguments.end()) {
    list_presets();
    return 0;
  }

  CLI::App app{"A small Llama engine whose KV cache is kvfreeze's.", "llama"};
  app.require_subcommand(1);
  app.footer("llama COMMAND --help says more; --list-presets shows the caches.");
  llama::GenerateOptions generate_options;
  llama::ScoreOptions score_options;
  llama::TuneOptions tune_options;
  llama::PasskeyOptions passkey_options;
  llama::NeedlesOptions needles_options;
  llama::LabOptions lab_options;
  llama::BenchOptions bench_options;
  llama::RecordOptions record_options;
  llama::CalibrateOptions calibrate_options;
  llama::CheckOptions check_options;
  score_options.common.weights = llama::WeightType::f16;
  tune_options.common.weights = llama::WeightType::f16;
  lab_options.common.weights = llama::WeightType::f16;
  lab_options.common.context = 1;  // each cell has its own
  bench_options.common.context = 8192;
  passkey_options.common.context = 0;  // what the text needs
  needles_options.common.context = 0;
  CLI::App* const generate = app.add_subcommand("generate", "write text (the default command)");
  CLI::App* const score = app.add_subcommand("score", "quality against a plain cache on a text");
  CLI::App* const tune =
      app.add_subcommand("tune", "walk a preset's knobs: memory against quality");
  CLI::App* const passkey = app.add_subcommand("passkey", "find a number hidden in a long text");
  CLI::App* const needles = app.add_subcommand("needles", "find several numbers hidden in prose");
  CLI::App* const lab = app.add_subcommand(
      "lab", "many caches at several sizes on several texts and tasks, with a report");
  CLI::App* const bench = app.add_subcommand("bench", "decode speed at several depths");
  CLI::App* const record =
      app.add_subcommand("record", "write the model's keys, values and queries to a file");
  CLI::App* const calibrate = app.add_subcommand(
      "calibrate", "measure heads or layers for budgets by them (with --published)");
  CLI::App* const check = app.add_subcommand("check", "our attention against ggml's");
  add_generate(*generate, generate_options);
  add_score(*score, score_options);
  add_tune(*tune, tune_options);
  add_passkey(*passkey, passkey_options);
  add_needles(*needles, needles_options);
  add_lab(*lab, lab_options);
  add_bench(*bench, bench_options);
  add_record(*record, record_options);
  add_calibrate(*calibrate, calibrate_options);
  add_check(*check, check_options);

  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app.parse(arguments);
  } catch (CLI::Success const& request) {  // --help
    return app.exit(request);
  } catch (CLI::ParseError const& error) {
    throw llama::UserError(error.what());
  }

  if (generate->parsed()) {
    if (bare) {  // the newcomer gets the whole picture: a cap that binds, and the plain cache
                 // beside
      generate_options.compare = true;
      generate_options.common.context = 1024;
      generate_options.common.resident = 0.4;
    }
    llama::generate(generate_options);
  } else if (score->parsed()) {
    llama::score(score_options);
  } else if (tune->parsed()) {
    llama::tune(tune_options);
  } else if (passkey->parsed()) {
    llama::passkey(passkey_options);
  } else if (needles->parsed()) {
    llama::needles(needles_options);
  } else if (lab->parsed()) {
    return llama::laboratory(lab_options) ? 0 : exit_interrupted;
  } else if (bench->parsed()) {
    llama::bench(bench_options);
  } else if (record->parsed()) {
    llama::record(record_options);
  } else if (calibrate->parsed()) {
    llama::calibrate(calibrate_options);
  } else {
    return llama::check(check_options) ? 0 : 1;
  }
  return 0;
}

int fail(std::exception const& error, int code) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (llama::UserError const& error) {
    return fail(error, exit_bad_input);
  } catch (kvfreeze::InvalidArgument const& error) {
    return fail(error, exit_bad_input);
  } catch (kvfreeze::CapacityError const& error) {
    return fail(error, exit_bad_input);
  } catch (std::exception const& error) {
    return fail(error, 1);
  }
}
