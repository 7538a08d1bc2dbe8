#include <kvfreeze/kvfreeze.hpp>

#include "../../support/checked_cache.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <vector>

using namespace kvfreeze;

namespace {

constexpr Shape two_heads{.layers = 2, .query_heads = 2, .kv_heads = 2, .head_dim = 16};

/// Asks for one recovery at one step.
struct Scripted {
  static constexpr Recovery highest = Recovery::rewalk;
  std::uint32_t step = 0;
  Recovery level = Recovery::none;
  int window = 5;
  int rewind = 8;

  Recovery observe(StepSignals const& signals) const noexcept {
    return signals.step == step ? level : Recovery::none;
  }

  void reset() noexcept {}

  [[nodiscard]] int window_steps() const { return window; }

  [[nodiscard]] int rewind_tokens() const { return rewind; }
};

Limits small_limits() {
  Limits limits;
  limits.max_tokens = 512;
  limits.sinks = 2;
  limits.window = 4;
  return limits;
}

/// Everything unprotected is low and sleeps.
template <class Tier = HostTier>
using Sleeping = KvFreezeCache<Layout<Half>, MeanAbsDotScorer<BoxDigest<>>,
                               SublinearScheduler<Thaw::lazy>, Tier, Scripted>;

/// The oldest rows go, and nothing but a recovery brings them back.
using Streaming =
    KvFreezeCache<Layout<Half>, RecencyScorer, OverCapacityScheduler, HostTier, Scripted>;

std::uint64_t absent(RowCounts const& rows) { return rows.frozen + rows.asleep; }

template <class Cache>
std::vector<int> counters(Cache const& cache, Sequence sequence, int rows) {
  std::vector<int> counts;
  for (std::uint32_t lane = 0; lane < 4; ++lane) {
    auto const ref = cache.memory().lane(sequence.index, lane);
    for (int i = 0; i < rows; ++i) {
      counts.push_back(ref.timer(static_cast<std::uint32_t>(i)).count);
    }
  }
  return counts;
}

}  // namespace

TEST_CASE("SR thaws those whose sleep is longer than one period", "[cache][recovery]") {
  auto const run = [](float softness, Recovery level) {
    Sleeping<> cache(two_heads, small_limits(), {}, {.softness = softness, .threshold = 1e9F},
                     HostTier(), {.step = 41, .level = level});
    kvfreeze_test::CheckedSequence<Sleeping<>> sequence(cache, 3);
    for (int i = 0; i < 40; ++i) {
      sequence.attend(1);
    }
    auto const report = sequence.attend(1);
    REQUIRE(report.recovery == level);
    return std::pair(absent(report.rows), sequence.attend(1).thawed_rows);
  };
  // sleep(1) = 4 and more: all of them.
  auto const [long_absent, long_thawed] = run(0.25F, Recovery::soft);
  REQUIRE(long_absent > 100);
  REQUIRE(long_thawed == long_absent);
  // sleep(c) = 1 for c in [16, 64): none of them.
  auto const [short_absent, short_thawed] = run(4.0F, Recovery::soft);
  REQUIRE(short_absent > 20);
  REQUIRE(short_thawed == 0);
  REQUIRE(run(0.25F, Recovery::none).second == 0);
}

TEST_CASE("WR thaws those frozen in the last N steps", "[cache][recovery]") {
  Streaming cache(two_heads, small_limits(), {}, {.capacity = 20}, HostTier(),
                  {.step = 50, .level = Recovery::window, .window = 5});
  kvfreeze_test::CheckedSequence<Streaming> sequence(cache, 3);
  for (int i = 0; i < 49; ++i) {
    sequence.attend(1);
  }
  REQUIRE(sequence.attend(1).recovery == Recovery::window);  // one row of each lane went per step
  auto const report = sequence.attend(1);
  REQUIRE(report.thawed_rows == 5 * 4);
  REQUIRE(report.frozen_rows == 6 * 4);
}

TEST_CASE("FR thaws everything at the next recall and clears the counters", "[cache][recovery]") {
  Sleeping<> cache(two_heads, small_limits(), {}, {.softness = 0.25F, .threshold = 1e9F},
                   HostTier(), {.step = 60, .level = Recovery::full});
  kvfreeze_test::CheckedSequence<Sleeping<>> sequence(cache, 3);
  for (int i = 0; i < 59; ++i) {
    sequence.attend(1);
  }
  auto const before = counters(cache, sequence.handle(), 40);
  REQUIRE(*std::max_element(before.begin(), before.end()) > 1);
  auto const report = sequence.attend(1);
  REQUIRE(report.recovery == Recovery::full);
  REQUIRE(report.rows.asleep == 0);
  auto const after = counters(cache, sequence.handle(), 40);
  REQUIRE(*std::max_element(after.begin(), after.end()) == 0);
  REQUIRE(sequence.attend(1).thawed_rows == absent(report.rows));
}

TEST_CASE("recovery keeps to the transfer budget and goes on until it is done",
          "[cache][recovery]") {
  Limits limits = small_limits();
  std::size_t const row = 2 * 16 * sizeof(std::uint16_t);
  limits.transfer_bytes = 4 * 3 * row;  // three rows for each lane and step
  using Counted = Sleeping<Statistics<HostTier>>;
  Counted cache(two_heads, limits, {}, {.softness = 0.02F, .threshold = 1e9F}, {},
                {.step = 60, .level = Recovery::full});
  kvfreeze_test::CheckedSequence<Counted> sequence(cache, 3);
  for (int i = 0; i < 59; ++i) {
    sequence.attend(1);
  }
  auto const report = sequence.attend(1);
  std::set<std::size_t> waiting;
  auto fidelities = kvfreeze_test::all_fidelities(cache, sequence.handle());
  std::size_t const length = fidelities.size() / 4;
  for (std::size_t i = 0; i < fidelities.size(); ++i) {
    if (fidelities[i] != Fidelity::exact) {
      waiting.insert(i);
    }
  }
  REQUIRE(waiting.size() == absent(report.rows));
  int steps = 0;
  for (; !waiting.empty() && steps < 200; ++steps) {
    cache.tier().reset();
    kvfreeze_test::InputStream stream(two_heads, static_cast<std::uint64_t>(steps));
    for (int layer = 0; layer < two_heads.layers; ++layer) {
      auto in = stream.next(1);
      cache.attend(sequence.handle(), layer, in.q, in.k, in.v, in.out);
    }
    for (auto i = waiting.begin(); i != waiting.end();) {
      auto const lane = static_cast<std::uint32_t>(*i / length);
      auto const ref = cache.memory().lane(sequence.handle().index, lane);
      bool const here = ref.fidelity(static_cast<std::uint32_t>(*i % length)) == Fidelity::exact;
      i = here ? waiting.erase(i) : std::next(i);
    }
    REQUIRE(cache.tier().counts().load.bytes <= limits.transfer_bytes);
    static_cast<void>(cache.advance(sequence.handle()));
    REQUIRE(cache.tier().counts().load.bytes + cache.tier().counts().store.bytes <=
            limits.transfer_bytes);
  }
  REQUIRE(waiting.empty());
  REQUIRE(steps > 5);
}

TEST_CASE("RR goes back to a checkpoint with its counters", "[cache][recovery]") {
  Scripted const trigger{.step = 58, .level = Recovery::rewalk, .rewind = 8};
  Sleeping<> cache(two_heads, small_limits(), {}, {.softness = 0.7F, .threshold = 1e9F}, HostTier(),
                   trigger);
  kvfreeze_test::CheckedSequence<Sleeping<>> sequence(cache, 3);
  std::vector<std::vector<int>> history(1);
  for (int i = 1; i < 58; ++i) {
    REQUIRE_FALSE(sequence.attend(1).rewind_to);
    history.push_back(counters(cache, sequence.handle(), i));
  }
  auto const report = sequence.attend(1);
  REQUIRE(report.recovery == Recovery::rewalk);
  // Checkpoints every eight steps: 49 is the youngest at least eight tokens back.
  REQUIRE(report.rewind_to == 49);
  REQUIRE(report.length == 49);
  REQUIRE(cache.length(sequence.handle()) == 49);
  REQUIRE(counters(cache, sequence.handle(), 49) == history[49]);
  for (int i = 0; i < 30; ++i) {
    sequence.attend(1);  // checks every row
  }
  sequence.thaw_and_compare(1);
}

TEST_CASE("RR again goes back further, without a checkpoint by tokens", "[cache][recovery]") {
  struct Twice : Scripted {
    Recovery observe(StepSignals const& signals) const noexcept {
      return signals.step == 20 || signals.step == 21 ? Recovery::rewalk : Recovery::none;
    }
  };

  using Boxes = KvFreezeCache<Layout<Half, 4>, MeanAbsDotScorer<BoxDigest<>>,
                              SublinearScheduler<Thaw::lazy>, HostTier, Twice>;
  Boxes cache(two_heads, small_limits(), {}, {.softness = 0.5F, .threshold = 1e9F}, HostTier(), {});
  kvfreeze_test::CheckedSequence<Boxes> sequence(cache, 3);
  sequence.attend(40);  // the checkpoint of step 0
  for (int i = 1; i < 19; ++i) {
    sequence.attend(1);
  }
  REQUIRE(sequence.attend(1).rewind_to == 48);  // of 59
  REQUIRE(sequence.attend(1).rewind_to == 41);  // of 49; the last two checkpoints were 48 and 56
  for (int i = 0; i < 30; ++i) {
    sequence.attend(1);
  }
  sequence.thaw_and_compare(1);
}

TEST_CASE("text that never calms down is rewalked a bounded number of times", "[cache][recovery]") {
  EntropyLadderSettings settings;
  settings.warmup = 4;
  presets::AsrKfEgr<> cache(two_heads, small_limits(), {}, {.softness = 0.5F}, HostTier(),
                            EntropyLadderTrigger(settings));
  kvfreeze_test::CheckedSequence<presets::AsrKfEgr<>> sequence(cache, 3);
  std::vector<float> const sure{30.0F, 0.0F, 0.0F, 0.0F};
  std::vector<float> const unsure(200, 0.0F);
  int rewalks = 0;
  int steps = 0;
  for (; sequence.length() < 300; ++steps) {
    REQUIRE(steps < 3000);
    auto const report = sequence.attend(1, steps % 9 < 4 || steps < 20 ? sure : unsure);
    rewalks += report.rewind_to ? 1 : 0;
  }
  CAPTURE(steps);
  REQUIRE(rewalks > 0);
}
