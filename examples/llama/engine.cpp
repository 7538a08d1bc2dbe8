#include "engine.hpp"

#include "text.hpp"
#include "user_error.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace llama {

namespace {

kvfreeze::Shape cache_shape(ModelShape const& shape) {
  return {.layers = shape.layers,
          .query_heads = shape.query_heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim};
}

}  // namespace

Engine::Engine(CommonOptions const& options)
    : options_(options),
      model_(options.model, options.weights),
      tokenizer_(model_.vocabulary()),
      decoder_(model_, options.threads) {
  if (options.context > model_.shape().context) {
    throw UserError("--context " + std::to_string(options.context) +
                    ": the model was trained for " + std::to_string(model_.shape().context) +
                    " tokens");
  }
}

Run Engine::make_run(Choice const& choice) {
  return make_run(choice.preset->make(settings(choice)));
}

Run Engine::make_run(std::unique_ptr<AttentionCache> cache) {
  return {decoder_, std::move(cache), options_.prefill_chunk};
}

Run Engine::make_plain_run(std::optional<int> context) {
  CacheSettings plain = settings(find_preset("Plain"));
  plain.limits.max_tokens = context.value_or(options_.context);
  plain.limits.resident_bytes = kvfreeze::unlimited;
  plain.knobs.clear();
  return make_run(find_preset("Plain").make(plain));
}

CacheSettings Engine::settings(Choice const& choice) const {
  CacheSettings result;
  result.shape = cache_shape(model_.shape());
  result.limits.max_tokens = choice.context.value_or(options_.context);
  result.limits.max_sequences = 1;
  result.limits.parts = options_.threads;
  bool const own_cap = choice.resident || choice.resident_bytes;
  auto const bytes = own_cap ? choice.resident_bytes : options_.resident_bytes;
  auto const fraction = own_cap ? choice.resident : options_.resident;
  if (bytes) {
    result.limits.resident_bytes = *bytes;
  } else if (fraction) {
    auto const full = static_cast<double>(
        full_bytes(result.shape, choice.cap_tokens.value_or(result.limits.max_tokens)));
    result.limits.resident_bytes = static_cast<std::size_t>(std::floor(*fraction * full));
  }
  result.limits.sinks = choice.sinks.value_or(options_.sinks.value_or(result.limits.sinks));
  result.limits.window = choice.window.value_or(options_.window.value_or(result.limits.window));
  result.tier = choice.tier.value_or(options_.tier);
  if (choice.calibration == measured_on_prompt && !choice.measures_prompts) {
    throw UserError("--preset: calibration=" + choice.calibration +
                    " is for the command lab, which measures each prompt");
  }
  result.calibration = choice.calibration;
  if (options_.missed_mass) {
    result.knobs.push_back({"missed-mass", *options_.missed_mass});
  }
  result.knobs.insert(result.knobs.end(), choice.knobs.begin(), choice.knobs.end());
  return result;
}

void Engine::put_settings(Json& json, Choice const& choice) const {
  CacheSettings const used = settings(choice);
  json.put("preset", choice.preset->name);
  json.put("label", choice.label);
  json.put("tier", used.tier == TierChoice::host ? "host" : "in-place");
  json.put("weights", weight_type_name(options_.weights));
  json.put("context_tokens", used.limits.max_tokens);
  json.put("threads", options_.threads);
  json.put("sinks", used.limits.sinks);
  json.put("window_tokens", used.limits.window);
  json.put("layers", used.shape.layers);
  json.put("kv_heads", used.shape.kv_heads);
  json.put("head_dim", used.shape.head_dim);
  if (used.limits.resident_bytes != kvfreeze::unlimited) {
    json.put("cap_bytes", used.limits.resident_bytes);
  } else {
    json.put("cap_bytes", nullptr);
  }
  for (Knob const& knob : used.knobs) {
    std::string name = "knob_" + knob.name;
    std::replace(name.begin(), name.end(), '-', '_');
    json.put(name, knob.value);
  }
}

}  // namespace llama
