#include <kvfreeze/error.hpp>
#include <kvfreeze/trigger/entropy_ladder_trigger.hpp>

#include "../../laws/random.hpp"

#include <catch2/catch.hpp>

#include <cmath>
#include <vector>

using namespace kvfreeze;

namespace {

using Settings = EntropyLadderTrigger::Settings;

/// A sequence that is decoded, rewound where the trigger says so.
struct Decoder {
  EntropyLadderTrigger trigger{};
  laws::Random random{4};
  int length = 1000;
  std::uint32_t step = 0;

  Recovery next(float entropy, float top = 0.5F) {
    Recovery const recovery = trigger.observe({.step = ++step,
                                               .length = ++length,
                                               .has_logits = true,
                                               .entropy = entropy,
                                               .top_probability = top});
    if (recovery == Recovery::rewalk) {
      length -= trigger.rewind_tokens();
    }
    return recovery;
  }

  /// Token entropies of ordinary text: mostly sure, at times not; mean 1, at most 3.4 nats.
  float calm() {
    float const u = random.uniform();
    return 3.4F * u * u * std::sqrt(u);
  }

  void run_calm(int steps) {
    for (int i = 0; i < steps; ++i) {
      static_cast<void>(next(calm()));
    }
  }

  /// Actions of `steps` steps at one entropy, none where there was none.
  std::vector<Recovery> run(int steps, float entropy) {
    std::vector<Recovery> actions;
    for (int i = 0; i < steps; ++i) {
      actions.push_back(next(entropy));
    }
    return actions;
  }
};

std::vector<std::pair<int, Recovery>> actions(std::vector<Recovery> const& verdicts) {
  std::vector<std::pair<int, Recovery>> found;
  for (std::size_t i = 0; i < verdicts.size(); ++i) {
    if (verdicts[i] != Recovery::none) {
      found.emplace_back(static_cast<int>(i), verdicts[i]);
    }
  }
  return found;
}

}  // namespace

TEST_CASE("calm text raises no alarm", "[trigger]") {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    Decoder decoder{.random = laws::Random(seed)};
    for (int i = 0; i < 5000; ++i) {
      REQUIRE(decoder.next(decoder.calm()) == Recovery::none);
    }
  }
}

TEST_CASE("a single spike is no trouble, `up` of them are", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  REQUIRE(decoder.next(9.0F) == Recovery::none);
  decoder.run_calm(20);
  REQUIRE(actions(decoder.run(4, 9.0F)) ==
          std::vector<std::pair<int, Recovery>>{{3, Recovery::soft}});
}

TEST_CASE("persistent trouble climbs the ladder, each step after its cool-down", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  // SR at the 4th high, then 8, 16, 32 and 64 steps of rest; two rewalks, then acceptance.
  REQUIRE(actions(decoder.run(300, 9.0F)) ==
          std::vector<std::pair<int, Recovery>>{{3, Recovery::soft},
                                                {12, Recovery::window},
                                                {29, Recovery::full},
                                                {62, Recovery::rewalk},
                                                {127, Recovery::rewalk}});
}

TEST_CASE("rewalks at one place are bounded, however long the trouble", "[trigger]") {
  Settings settings;
  settings.rewind_tokens = 65;  // as much as its cool-down decodes: no progress
  Decoder decoder{.trigger = EntropyLadderTrigger(settings)};
  decoder.run_calm(200);
  int rewalks = 0;
  for (int i = 0; i < 100; ++i) {
    // Calm and trouble in turn, and never out of the place.
    decoder.length = 1200;
    decoder.run_calm(10);
    for (Recovery const recovery : decoder.run(30, 12.0F)) {
      rewalks += recovery == Recovery::rewalk ? 1 : 0;
    }
  }
  REQUIRE(rewalks == 2);
  rewalks = 0;
  decoder.length = 5000;  // elsewhere there are new ones
  decoder.run_calm(200);
  for (Recovery const recovery : decoder.run(300, 12.0F)) {
    rewalks += recovery == Recovery::rewalk ? 1 : 0;
  }
  REQUIRE(rewalks == 2);
}

TEST_CASE("a new normal is accepted in the end", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  static_cast<void>(decoder.run(400, 5.0F));
  REQUIRE(actions(decoder.run(2000, 5.0F)).empty());
}

TEST_CASE("lows step down, the dead zone does not", "[trigger]") {
  Settings settings;
  settings.soft_cooldown = 0;
  settings.window_cooldown = 0;
  auto const second_action = [&](float between, int steps) {
    Decoder decoder{.trigger = EntropyLadderTrigger(settings)};
    for (int i = 0; i < 200; ++i) {
      static_cast<void>(decoder.next(i % 2 == 0 ? 0.0F : 2.0F));  // mean 1, deviation 1
    }
    REQUIRE(decoder.run(4, 9.0F).back() == Recovery::soft);
    static_cast<void>(decoder.run(steps, between));
    return decoder.run(4, 9.0F).back();
  };
  REQUIRE(second_action(1.0F, 4) == Recovery::window);
  REQUIRE(second_action(1.0F, 5) == Recovery::soft);
  REQUIRE(second_action(2.9F, 5) == Recovery::window);  // between 1.5 and 3 deviations
}

TEST_CASE("highs must follow one another", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  for (int i = 0; i < 50; ++i) {
    REQUIRE(actions(decoder.run(3, 9.0F)).empty());
    REQUIRE(decoder.next(0.5F) == Recovery::none);
  }
}

TEST_CASE("a collapse into a loop is trouble, a short sure passage is not", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  for (int i = 0; i < 31; ++i) {
    REQUIRE(decoder.next(0.01F, 0.999F) == Recovery::none);
  }
  decoder.run_calm(10);
  int at = 0;
  while (decoder.next(0.01F, 0.999F) == Recovery::none) {
    REQUIRE(++at < 100);
  }
  REQUIRE(at == 32 - 1 + 4 - 1);
  Decoder unsure;
  unsure.run_calm(200);
  for (int i = 0; i < 200; ++i) {
    REQUIRE(unsure.next(0.04F, 0.98F) == Recovery::none);
  }
}

TEST_CASE("nothing happens during the warm-up, and afterwards it does", "[trigger]") {
  Decoder decoder;
  static_cast<void>(decoder.run(3, 0.1F));
  REQUIRE(actions(decoder.run(29, 4.0F)).empty());  // learnt as what this text is like
  REQUIRE(actions(decoder.run(100, 4.0F)).empty());
  REQUIRE(decoder.run(4, 12.0F).back() == Recovery::soft);
}

TEST_CASE("small rises are no spikes, whatever the deviation", "[trigger]") {
  Decoder decoder;
  static_cast<void>(decoder.run(200, 0.1F));
  REQUIRE(actions(decoder.run(200, 0.55F)).empty());
}

TEST_CASE("steps without logits are ignored", "[trigger]") {
  Decoder decoder;
  decoder.run_calm(200);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(decoder.trigger.observe({.entropy = 9.0F}) == Recovery::none);
    REQUIRE(decoder.trigger.observe({.has_logits = true, .entropy = NAN}) == Recovery::none);
  }
  REQUIRE(decoder.run(4, 9.0F).back() == Recovery::soft);
}

TEST_CASE("the ceiling holds", "[trigger]") {
  Settings settings;
  settings.ceiling = Recovery::window;
  Decoder decoder{.trigger = EntropyLadderTrigger(settings)};
  decoder.run_calm(200);
  REQUIRE(actions(decoder.run(300, 9.0F)) ==
          std::vector<std::pair<int, Recovery>>{{3, Recovery::soft}, {12, Recovery::window}});
}

TEST_CASE("the entropy ladder is small and rejects settings out of range", "[trigger]") {
  static_assert(std::is_trivially_copyable_v<EntropyLadderTrigger>);
  static_assert(sizeof(EntropyLadderTrigger) <= 128);
  auto const rejects = [](auto change) {
    Settings settings;
    change(settings);
    REQUIRE_THROWS_AS(EntropyLadderTrigger(settings).validate(), InvalidArgument);
  };
  REQUIRE_NOTHROW(EntropyLadderTrigger{}.validate());
  rejects([](Settings& s) { s.decay = 1.0F; });
  rejects([](Settings& s) { s.calm_sigmas = 4.0F; });
  rejects([](Settings& s) { s.min_rise = NAN; });
  rejects([](Settings& s) { s.up = 0; });
  rejects([](Settings& s) { s.warmup = 0; });
  rejects([](Settings& s) { s.rewind_tokens = 0; });
  rejects([](Settings& s) { s.collapse_probability = 2.0F; });
}
