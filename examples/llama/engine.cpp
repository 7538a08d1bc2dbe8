#include "engine.hpp"

#include "text.hpp"
#include "user_error.hpp"

#include <cmath>
#include <string>

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
  if (options.resident_bytes) {
    cap_bytes_ = *options.resident_bytes;
  } else if (options.resident) {
    auto const full = static_cast<double>(full_bytes(cache_shape(model_.shape()), options.context));
    cap_bytes_ = static_cast<std::size_t>(std::floor(*options.resident * full));
  }
}

Run Engine::make_run(Preset const& preset) { return {decoder_, preset.make(settings())}; }

Run Engine::make_plain_run() {
  CacheSettings plain = settings();
  plain.limits.resident_bytes = kvfreeze::unlimited;
  plain.missed_mass.reset();
  return {decoder_, find_preset("Plain").make(plain)};
}

CacheSettings Engine::settings() const {
  CacheSettings result;
  result.shape = cache_shape(model_.shape());
  result.limits.max_tokens = options_.context;
  result.limits.max_sequences = 1;
  result.limits.resident_bytes = cap_bytes_;
  result.limits.parts = options_.threads;
  result.limits.sinks = options_.sinks.value_or(result.limits.sinks);
  result.limits.window = options_.window.value_or(result.limits.window);
  result.tier = options_.tier;
  if (options_.missed_mass) {
    result.missed_mass = static_cast<float>(*options_.missed_mass);
  }
  return result;
}

void Engine::put_settings(Json& json, Preset const& preset) const {
  CacheSettings const used = settings();
  json.put("preset", preset.name);
  json.put("tier", options_.tier == TierChoice::host ? "host" : "in-place");
  json.put("weights", weight_type_name(options_.weights));
  json.put("context_tokens", options_.context);
  json.put("threads", options_.threads);
  json.put("sinks", used.limits.sinks);
  json.put("window_tokens", used.limits.window);
  json.put("layers", used.shape.layers);
  json.put("kv_heads", used.shape.kv_heads);
  json.put("head_dim", used.shape.head_dim);
  if (cap_bytes_ != kvfreeze::unlimited) {
    json.put("cap_bytes", cap_bytes_);
  } else {
    json.put("cap_bytes", nullptr);
  }
  if (options_.missed_mass) {
    json.put("missed_mass_target", *options_.missed_mass);
  }
}

}  // namespace llama
