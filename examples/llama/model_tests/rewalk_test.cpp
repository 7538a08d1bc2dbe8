#include <kvfreeze/presets.hpp>

#include "decoder.hpp"
#include "generation.hpp"
#include "model.hpp"
#include "presets/cache_adaptor.hpp"
#include "prose.hpp"
#include "run.hpp"
#include "support.hpp"

#include <catch2/catch.hpp>

#include <memory>
#include <vector>

using namespace llama;

namespace {

/// Asks for a Rewalk Regeneration at every step that has logits and this length, `times` times.
struct RewalkAt {
  static constexpr kvfreeze::Recovery highest = kvfreeze::Recovery::rewalk;

  int length = 0;
  int times = 1;

  kvfreeze::Recovery observe(kvfreeze::StepSignals const& signals) noexcept {
    if (!signals.has_logits || signals.length < length || times == 0) {
      return kvfreeze::Recovery::none;
    }
    --times;
    return kvfreeze::Recovery::rewalk;
  }

  void reset() noexcept {}

  [[nodiscard]] int rewind_tokens() const noexcept { return 12; }
};

using Eternal =
    kvfreeze::KvFreezeCache<kvfreeze::Layout<>, kvfreeze::RecencyScorer, kvfreeze::KeepAllScheduler,
                            kvfreeze::InPlaceTier, RewalkAt>;
using Freezing =
    kvfreeze::KvFreezeCache<kvfreeze::Layout<>, kvfreeze::MeanAbsDotScorer<kvfreeze::KeyCodes<4>>,
                            kvfreeze::SublinearScheduler<kvfreeze::Thaw::lazy>, kvfreeze::HostTier,
                            RewalkAt>;

template <class Cache>
std::unique_ptr<AttentionCache> make_cache_with(CacheSettings const& settings, RewalkAt trigger) {
  return std::make_unique<CacheAdaptor<Cache>>(
      settings.shape, settings.limits, typename Cache::scorer_type{},
      typename Cache::scheduler_type{}, typename Cache::tier_type{}, trigger);
}

GenerationOptions options_for(Tokenizer const& tokenizer) {
  GenerationOptions options;
  options.tokens = 48;
  options.sampler = {.temperature = 0.8, .top_p = 0.95, .repeat_penalty = 1.1};
  options.rewalk_temperature = 0.8;  // as before, so that the same text comes again
  options.ends = {*tokenizer.control("<|im_end|>")};
  return options;
}

std::vector<int> copy(std::span<int const> tokens) { return {tokens.begin(), tokens.end()}; }

}  // namespace

TEST_CASE("a rewalk takes text, sampler and caches back together") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  Decoder decoder(model, 1);
  CacheSettings const settings = settings_for(model.shape());
  std::vector<int> const prompt = tokenizer.encode(filler_prose(3));
  int const at = static_cast<int>(prompt.size()) + 30;

  Generation calm(options_for(tokenizer), prompt,
                  Run(decoder, make_cache_with<Eternal>(settings, {.length = at, .times = 0})));
  calm.read_prompt();
  calm.run([](Generation::Event const&) {});

  Generation rewalked(options_for(tokenizer), prompt,
                      Run(decoder, make_cache_with<Eternal>(settings, {.length = at, .times = 1})),
                      Run(decoder, find_preset("plain").make(settings)));
  rewalked.read_prompt();
  int events = 0;
  int taken_back = 0;
  rewalked.run([&](Generation::Event const& event) {
    ++events;
    taken_back += event.taken_back;
  });
  CHECK(calm.rewalks() == 0);
  CHECK(rewalked.rewalks() == 1);
  CHECK(taken_back >= 12);
  CHECK(events == 48 + taken_back);
  CHECK(copy(rewalked.generated()) == copy(calm.generated()));
  CHECK(rewalked.preset_run().cache().length() == static_cast<int>(prompt.size()) + 48);
  CHECK(rewalked.plain_run()->tokens() == rewalked.preset_run().tokens());
  CHECK(rewalked.quality().positions == 48);
  CHECK(rewalked.quality().kl_mean == 0.0);  // no row ever froze
}

TEST_CASE("a cooler rewalk goes on with another text") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  Decoder decoder(model, 1);
  CacheSettings const settings = settings_for(model.shape());
  std::vector<int> const prompt = tokenizer.encode(filler_prose(3));
  int const at = static_cast<int>(prompt.size()) + 30;
  GenerationOptions options = options_for(tokenizer);
  options.sampler.temperature = 1.5;
  options.rewalk_temperature = 0.0;
  std::vector<int> before;
  Generation generation(
      options, prompt,
      Run(decoder, make_cache_with<Freezing>(settings, {.length = at, .times = 1})));
  generation.read_prompt();
  generation.run([&](Generation::Event const& event) {
    if (event.taken_back == 0 && generation.rewalks() == 0) {
      before.push_back(event.token);
    }
  });
  CHECK(generation.rewalks() == 1);
  CHECK(generation.generated().size() == 48);
  CHECK(copy(generation.generated().first(before.size())) != before);
  CHECK(copy(generation.generated().first(10)) == std::vector(before.begin(), before.begin() + 10));
}

TEST_CASE("rewalks are bounded where the trigger never rests") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  Decoder decoder(model, 1);
  CacheSettings const settings = settings_for(model.shape());
  std::vector<int> const prompt = tokenizer.encode(filler_prose(3));
  int const at = static_cast<int>(prompt.size()) + 20;
  for (int const most : {0, 3}) {
    GenerationOptions options = options_for(tokenizer);
    options.max_rewalks = most;
    Generation generation(
        options, prompt,
        Run(decoder, make_cache_with<Freezing>(settings, {.length = at, .times = 1000})),
        Run(decoder, find_preset("plain").make(settings)));
    generation.read_prompt();
    generation.run([](Generation::Event const&) {});
    CHECK(generation.rewalks() == most);
    CHECK(generation.generated().size() == 48);
    CHECK(generation.preset_run().cache().length() == static_cast<int>(prompt.size()) + 48);
    CHECK(generation.plain_run()->tokens() == generation.preset_run().tokens());
    RunSummary const summary = summarise(generation.preset_run().steps());
    CHECK(summary.recoveries[4] == static_cast<std::size_t>(most));
  }
}

TEST_CASE("a rewalk into the prompt leaves the prompt as it is") {
  std::string const path = model_path();
  if (path.empty()) {
    return;
  }
  Model const model(path);
  Tokenizer const tokenizer(model.vocabulary());
  Decoder decoder(model, 1);
  CacheSettings const settings = settings_for(model.shape());
  std::vector<int> const prompt = tokenizer.encode(filler_prose(3));
  int const at = static_cast<int>(prompt.size()) + 3;
  Generation generation(
      options_for(tokenizer), prompt,
      Run(decoder, make_cache_with<Freezing>(settings, {.length = at, .times = 2})));
  generation.read_prompt();
  generation.run([](Generation::Event const&) {});
  std::vector<int> const& tokens = generation.preset_run().tokens();
  CHECK(generation.rewalks() == 2);
  CHECK(std::vector(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size())) ==
        prompt);
  CHECK(generation.generated().size() == 48);
}
