#include <kvfreeze/host/timers.hpp>
#include <kvfreeze/kvfreeze.hpp>

#include "../../laws/random.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

using namespace kvfreeze;

namespace {

using C = host::Composition<Layout<>, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>, HostTier,
                            NeverTrigger>;

constexpr Shape shape{.layers = 1, .query_heads = 1, .kv_heads = 1, .head_dim = 8};

/// A lane of frozen rows and nothing else.
class Wheel {
 public:
  explicit Wheel(int rows) : memory_(shape, Limits{.max_sequences = 1}, {}) {
    memory_.open(0);
    ref_ = memory_.lane(0, 0);
    ref_.lane->rows = rows;
    for (int i = 0; i < rows; ++i) {
      ref_.state(static_cast<std::uint32_t>(i)) = static_cast<std::uint8_t>(Fidelity::frozen);
    }
  }

  [[nodiscard]] host::LaneRef<C> const& ref() const { return ref_; }

  [[nodiscard]] bool asleep(int granule) const {
    return ref_.fidelity(static_cast<std::uint32_t>(granule)) == Fidelity::asleep;
  }

 private:
  host::Memory<C> memory_;
  host::LaneRef<C> ref_;
};

}  // namespace

TEST_CASE("a sleeper wakes exactly on time, however long it sleeps", "[cache][wheel]") {
  laws::Random random(7);
  int const rows = 400;
  Wheel wheel(rows);
  std::vector<std::uint32_t> wake(rows, 0);
  for (std::uint32_t step = 0; step < 2000; ++step) {
    host::wake_due(wheel.ref(), step);
    int sleepers = 0;
    for (int i = 0; i < rows; ++i) {
      auto const at = static_cast<std::size_t>(i);
      REQUIRE(wheel.asleep(i) == (wake[at] > step));
      if (!wheel.asleep(i) && random.below(20) == 0) {
        wake[at] = step + 1 + random.below(random.below(2) == 0 ? 5 : 300);
        host::fall_asleep(wheel.ref(), static_cast<std::uint32_t>(i), wake[at]);
      }
      sleepers += wheel.asleep(i) ? 1 : 0;
    }
    REQUIRE(wheel.ref().lane->asleep == sleepers);
  }
}

TEST_CASE("multiples of the wheel's size go round", "[cache][wheel]") {
  Wheel wheel(3);
  host::wake_due(wheel.ref(), 0);
  for (std::uint32_t i = 0; i < 3; ++i) {
    host::fall_asleep(wheel.ref(), i, 64 * (i + 1));
  }
  for (std::uint32_t step = 1; step <= 192; ++step) {
    host::wake_due(wheel.ref(), step);
    for (int i = 0; i < 3; ++i) {
      REQUIRE(wheel.asleep(i) == (64U * static_cast<std::uint32_t>(i + 1) > step));
    }
  }
}

TEST_CASE("steps without a recall are caught up with", "[cache][wheel]") {
  for (std::uint32_t const gap : {2U, 50U, 63U, 64U, 65U, 200U}) {
    Wheel wheel(300);
    host::wake_due(wheel.ref(), 0);
    for (std::uint32_t i = 0; i < 300; ++i) {
      host::fall_asleep(wheel.ref(), i, i + 1);
    }
    host::wake_due(wheel.ref(), gap);
    for (int i = 0; i < 300; ++i) {
      CAPTURE(gap, i);
      REQUIRE(wheel.asleep(i) == (static_cast<std::uint32_t>(i + 1) > gap));
    }
  }
}

TEST_CASE("whoever is woken early does not wake twice", "[cache][wheel]") {
  Wheel wheel(100);
  for (std::uint32_t i = 0; i < 100; ++i) {
    host::fall_asleep(wheel.ref(), i, 10 + i);
  }
  host::wake_where(wheel.ref(),
                   [](std::uint32_t granule, host::Timer const&) { return granule % 2 == 0; });
  REQUIRE(wheel.ref().lane->asleep == 50);
  host::fall_asleep(wheel.ref(), 0, 90);
  for (std::uint32_t step = 0; step < 120; ++step) {
    host::wake_due(wheel.ref(), step);
    REQUIRE(wheel.asleep(0) == (step < 90));
    REQUIRE_FALSE(wheel.asleep(2));
    REQUIRE(wheel.asleep(1) == (step < 11));
  }
}

// Every row is below the threshold at every look: after the c-th it is absent ⌊√c / k⌋ steps, then
// attended for one.
TEST_CASE("an eager sleeper is absent exactly d steps", "[cache][wheel]") {
  float const softness = GENERATE(0.5F, 1.0F, 2.0F);
  Limits limits;
  limits.max_tokens = 1024;
  limits.sinks = 0;
  limits.window = 4;
  KvFreezeCache<Layout<float>, MeanAbsDotScorer<>, SublinearScheduler<Thaw::eager>, HostTier,
                NeverTrigger>
      cache(shape, limits, {}, {.softness = softness, .threshold = 1e9F});
  auto const sequence = cache.open();
  std::vector<float> const row(8, 1.0F);
  std::vector<float> out(8);
  std::vector<bool> seen;  // is row 0 attended?
  for (int step = 0; step < 700; ++step) {
    cache.attend(sequence, 0, row, row, row, out);
    auto const view = cache.view(sequence, 0, 0);
    seen.push_back(!view.positions.empty() && view.positions.front() == 0);
    static_cast<void>(cache.advance(sequence));
  }
  // The first detection is in the step in which row 0 leaves the window.
  std::size_t at = static_cast<std::size_t>(limits.window) + 1;
  for (int count = 1; at < seen.size(); ++count) {
    auto const absent = static_cast<std::size_t>(std::sqrt(static_cast<double>(count)) /
                                                 static_cast<double>(softness));
    for (std::size_t i = 0; i < absent && at < seen.size(); ++i, ++at) {
      CAPTURE(count, absent, at);
      REQUIRE_FALSE(seen[at]);
    }
    if (at < seen.size()) {
      CAPTURE(count, absent, at);
      REQUIRE(seen[at++]);
    }
  }
}
