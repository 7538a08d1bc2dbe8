#include "measure.hpp"

#include <kvfreeze/error.hpp>

#include "../quality.hpp"
#include "../retrieval.hpp"
#include "../text.hpp"
#include "../user_error.hpp"
#include "../watch.hpp"
#include "prepared.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <span>
#include <utility>

namespace llama::lab {

namespace {

/// The plain cache's logits before each token of a continuation but the first.
class Reference {
 public:
  Reference(Run& plain, std::vector<int> const& continuation, std::function<void()> const& tick) {
    for (std::size_t i = 0; i + 1 < continuation.size(); ++i) {
      tick();
      plain.step_forced(continuation[i]);
      logits_.insert(logits_.end(), plain.logits().begin(), plain.logits().end());
      size_ = plain.logits().size();
    }
  }

  /// @param at of the token that they predict, >= 1
  [[nodiscard]] std::span<float const> before(std::size_t at) const {
    return std::span(logits_).subspan((at - 1) * size_, size_);
  }

 private:
  std::vector<float> logits_;
  std::size_t size_ = 0;
};

/// Shares of rows that each lane kept exact or compact, means over samples.
class Retention {
 public:
  static constexpr std::size_t period = 32;  ///< steps between samples

  explicit Retention(int layers) : layers_(layers) {}

  void sample(AttentionCache const& cache) {
    int const lanes = cache.lanes_per_layer();
    exact_.resize(static_cast<std::size_t>(layers_ * lanes), 0.0);
    compact_.resize(exact_.size(), 0.0);
    std::vector<kvfreeze::Fidelity> rows(static_cast<std::size_t>(cache.length()));
    std::size_t at = 0;
    for (int layer = 0; layer < layers_; ++layer) {
      for (int lane = 0; lane < lanes; ++lane, ++at) {
        cache.fidelities(layer, lane, rows);
        auto const share = [&](kvfreeze::Fidelity fidelity) {
          return static_cast<double>(std::count(rows.begin(), rows.end(), fidelity)) /
                 static_cast<double>(rows.size());
        };
        exact_[at] += share(kvfreeze::Fidelity::exact);
        compact_[at] += share(kvfreeze::Fidelity::compact);
      }
    }
    samples_ += 1;
  }

  void put(Json& json) const {
    json.put("retention_layers", layers_);
    for (std::size_t i = 0; i < exact_.size(); ++i) {
      json.append("retention_exact", rounded(exact_[i] / samples_, 4));
      json.append("retention_compact", rounded(compact_[i] / samples_, 4));
    }
  }

  /// To so many decimals: a list of figures is to stay short.
  static double rounded(double x, int decimals) {
    double const scale = std::pow(10.0, decimals);
    return std::round(x * scale) / scale;
  }

 private:
  int layers_;
  std::vector<double> exact_;
  std::vector<double> compact_;
  double samples_ = 0.0;
};

/// To so many significant digits.
double shortened(double x, int digits) {
  if (x == 0.0 || !std::isfinite(x)) {
    return x;
  }
  int const magnitude = static_cast<int>(std::floor(std::log10(std::fabs(x))));
  return Retention::rounded(x, std::min(digits - 1 - magnitude, 12));
}

/// Figures that only the laboratory has. Resident bytes are set against the whole context's full
/// cache, as the caps are; the summary's fractions are of the text so far.
void put_more(Json& json, std::span<Step const> steps, RunSummary const& summary,
              std::size_t full) {
  double sum = 0.0;
  double peak = 0.0;
  for (Step const& step : steps) {
    if (step.kind == StepKind::decode) {
      double const share =
          static_cast<double>(step.report.ledger.resident()) / static_cast<double>(full);
      sum += share;
      peak = std::max(peak, share);
    }
  }
  json.put("resident_of_context_mean",
           sum / static_cast<double>(std::max<std::size_t>(summary.decode_steps, 1)));
  json.put("resident_of_context_peak", peak);
  std::size_t recoveries = 0;
  for (std::size_t i = 1; i < summary.recoveries.size(); ++i) {
    recoveries += summary.recoveries[i];
  }
  json.put("recoveries", recoveries);
  json.put("seconds_per_token", 1.0 / summary.decode_tokens_per_second);
}

/// Teacher-forced: divergence from the plain cache, and what the prompt determines.
void measure_continuation(Json& json, Run& run, Subject const& subject, Reference const& reference,
                          int layers, std::size_t full, std::function<void()> const& tick) {
  std::vector<int> const& tokens = subject.continuation;
  std::size_t const first_step = run.steps().size();
  Retention retention(layers);
  std::vector<Prediction> predictions;
  std::vector<int> right;
  for (std::size_t at = 1; at < tokens.size(); ++at) {
    tick();
    run.step_forced(tokens[at - 1]);
    predictions.push_back(compare_logits(reference.before(at), run.logits(), tokens[at]));
    if (std::binary_search(subject.recalled.begin(), subject.recalled.end(),
                           static_cast<int>(at))) {
      auto const top = std::max_element(run.logits().begin(), run.logits().end());
      right.push_back(top - run.logits().begin() == tokens[at] ? 1 : 0);
    }
    if (at % Retention::period == 0 || at + 1 == tokens.size()) {
      retention.sample(run.cache());
    }
  }
  std::span<Step const> const steps = std::span(run.steps()).subspan(first_step);
  RunSummary const summary = summarise(steps);
  Quality const quality = summarise(predictions);
  json.put("positions", quality.positions);
  put_figures(json, quality);
  put_figures(json, summary);
  put_more(json, steps, summary, full);
  if (!subject.recalled.empty()) {
    json.put("wanted", right.size());
    json.put("right", std::count(right.begin(), right.end(), 1));
    json.put("right_each", right);
  }
  retention.put(json);
  for (Prediction const& p : predictions) {
    json.append("kl", shortened(p.kl, 4));
  }
  for (Prediction const& p : predictions) {
    json.append("nll_difference", shortened(p.nll - p.nll_plain, 4));
  }
}

/// The model's own words, greedily.
void measure_questions(Json& json, Engine const& engine, Prepared& prepared, std::size_t cap,
                       std::size_t full, Subject const& subject,
                       std::function<void()> const& tick) {
  std::vector<Step> steps;
  std::vector<int> right;
  std::size_t wanted = 0;
  std::string said;
  for (Question const& question : subject.questions) {
    Run& run = prepared.under(cap);
    std::size_t const first_step = run.steps().size();
    for (int const token : question.tokens) {
      tick();
      run.step_forced(token);
    }
    std::string const answer = say(engine.tokenizer(), run, question.answer_tokens);
    right.push_back(count_said(answer, question.wanted));
    wanted += question.wanted.size();
    said += (said.empty() ? "" : "\n") + answer;
    steps.insert(steps.end(), run.steps().begin() + static_cast<std::ptrdiff_t>(first_step),
                 run.steps().end());
  }
  RunSummary const summary = summarise(steps);
  json.put("wanted", wanted);
  int all = 0;
  for (int const each : right) {
    all += each;
  }
  json.put("right", all);
  json.put("right_each", right);
  json.put("said", said);
  put_figures(json, summary);
  put_more(json, steps, summary, full);
}

std::string today() {
  auto const day = std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now());
  std::chrono::year_month_day const date(day);
  auto const two = [](unsigned n) { return (n < 10 ? "0" : "") + std::to_string(n); };
  return std::to_string(static_cast<int>(date.year())) + "-" +
         two(static_cast<unsigned>(date.month())) + "-" + two(static_cast<unsigned>(date.day()));
}

std::string settings_text(CacheSettings const& used) {
  std::string text = "sinks=" + std::to_string(used.limits.sinks) +
                     ",window=" + std::to_string(used.limits.window) +
                     ",tier=" + (used.tier == TierChoice::host ? "host" : "in-place");
  for (Knob const& knob : used.knobs) {
    text += "," + knob.name + "=" + fraction_text(knob.value);
  }
  if (used.calibration == measured_on_prompt) {
    text += ",calibration=" + used.calibration;
  } else if (!used.calibration.empty()) {
    text += ",calibration=" + hash_text(read_text_file(used.calibration));
  }
  return text;
}

}  // namespace

std::vector<System> make_systems(Engine& engine, std::vector<Choice> const& choices, int context,
                                 std::function<bool(std::string const&)> const& leave_out) {
  std::vector<System> systems;
  for (Choice choice : choices) {
    if (choice.resident || choice.resident_bytes) {
      throw UserError("--presets: '" + choice.label +
                      "' has a cap of its own; caps are what --resident says");
    }
    choice.context = context;
    choice.measures_prompts = true;
    try {
      auto const cache = choice.preset->make(engine.settings(choice));
      systems.push_back(
          {choice, {choice.label, settings_text(engine.settings(choice)), cache->obeys_cap()}});
    } catch (UserError const& error) {
      if (!leave_out(choice.label + ": " + error.what())) {
        throw;
      }
    }
  }
  return systems;
}

Measurement::Measurement(Engine& engine, Circumstances circumstances, Provenance provenance,
                         std::function<void()> tick)
    : engine_(engine),
      circumstances_(std::move(circumstances)),
      provenance_(std::move(provenance)),
      tick_(std::move(tick)) {}

void Measurement::measure(Subject const& subject, std::vector<System> const& systems,
                          std::vector<Fraction> const& fractions, Callbacks const& callbacks) {
  Watch watch;
  std::optional<Reference> reference;
  for (System const& system : systems) {
    std::vector<std::pair<Fraction, std::string>> cells;
    for (Fraction const& fraction : fractions_of(system.name, fractions)) {
      std::string key = cell_key(subject.name, system.name, fraction, circumstances_);
      if (callbacks.wanted(key)) {
        cells.emplace_back(fraction, std::move(key));
      }
    }
    if (cells.empty()) {
      continue;
    }
    callbacks.begins(system.name.label, cells.front().first);
    if (!subject.continuation.empty() && !reference) {
      Choice plain(find_preset("Plain"));
      plain.context = subject.name.context;
      reference.emplace(Prepared(engine_, plain, subject.prompt, tick_).under(kvfreeze::unlimited),
                        subject.continuation, tick_);
    }
    Choice choice = system.choice;
    choice.context = subject.name.context;
    Prepared prepared(engine_, choice, subject.prompt, tick_);
    std::size_t const full = full_bytes(engine_.settings(choice).shape, subject.name.context);
    for (auto const& [fraction, key] : cells) {
      callbacks.begins(system.name.label, fraction);
      std::size_t const cap =
          fraction ? static_cast<std::size_t>(std::floor(*fraction * static_cast<double>(full)))
                   : kvfreeze::unlimited;
      Json figures;
      std::string status = "measured";
      auto const spoil = [&](char const* as, std::exception const& error) {
        status = as;
        figures = {};
        figures.put("reason", error.what());
      };
      try {
        if (subject.continuation.empty()) {
          measure_questions(figures, engine_, prepared, cap, full, subject, tick_);
        } else {
          measure_continuation(figures, prepared.under(cap), subject, *reference,
                               engine_.shape().layers, full, tick_);
        }
        figures.put("protocol", prepared.protocol());
      } catch (kvfreeze::CapacityError const& error) {
        spoil("unreachable", error);
        figures.put("least_bytes", error.needed());
        figures.put("least_fraction",
                    static_cast<double>(error.needed()) / static_cast<double>(full));
      } catch (UserError const&) {
        throw;
      } catch (std::exception const& error) {  // one composition less: the others go on
        spoil("failed", error);
      }
      Json json;
      json.put("key", key);
      json.put("status", status);
      json.put("task", subject.name.task);
      json.put("variant", subject.name.variant);
      json.put("preset", system.name.label);
      json.put("settings", system.name.settings);
      if (fraction) {
        json.put("resident", *fraction);
        json.put("cap_bytes", cap);
      } else {
        json.put("resident", nullptr);
        json.put("cap_bytes", nullptr);
      }
      json.put("full_bytes", full);
      json.put("context", subject.name.context);
      json.put("text", subject.name.text);
      json.put("text_hash", subject.name.text_hash);
      json.put("offset", subject.name.offset);
      json.put("piece", subject.name.piece);
      json.put("parameters", subject.name.parameters);
      json.put("model", circumstances_.model);
      json.put("model_hash", circumstances_.model_hash);
      json.put("weights", circumstances_.weights);
      json.put("version", circumstances_.version);
      json.put("prefill_chunk", circumstances_.prefill_chunk);
      json.put("threads", circumstances_.threads);
      json.put("prompt_tokens", subject.prompt.size());
      json.append(figures);
      json.put("machine", provenance_.machine);
      json.put("commit", provenance_.commit);
      json.put("date", today());
      json.put("seconds_cell", watch.seconds());
      callbacks.done(json);
      watch = {};
    }
  }
}

}  // namespace llama::lab
