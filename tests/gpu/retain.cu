#include <kvfreeze/gpu/retain.cuh>
#include <kvfreeze/host/choose.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <gpu/chosen_scheduler.cuh>
#include <gpu/device.cuh>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace kvfreeze;
using namespace kvfreeze::gpu;
using Scheduler = test::ChosenScheduler<false>;
using State = host::GranuleState;

/// How the scores of a lane are distributed.
enum class Spread : std::uint8_t {
  wide,   ///< over all bins and beyond
  close,  ///< within a bin or two
  few,    ///< a few values
  zeros,
  tiny,  ///< below the histogram's range
  huge,  ///< above it
};

struct HostLane {
  std::vector<float> scores;
  std::vector<std::uint16_t> stamps;
  std::vector<std::uint8_t> states;
  LaneFacts facts;
  int low = 0;
  int high = 0;

  HostLane(std::size_t n, Spread spread, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
    for (std::size_t i = 0; i < n; ++i) {
      float const x = uniform(random);
      float score = 0.0F;
      switch (spread) {
        case Spread::wide:
          score = std::exp2(80.0F * x - 45.0F);
          break;
        case Spread::close:
          score = 0.3F + 0.0001F * x;
          break;
        case Spread::few:
          score = 0.125F * std::floor(4.0F * x);
          break;
        case Spread::zeros:
          break;
        case Spread::tiny:
          score = 0x1p-50F * x;
          break;
        case Spread::huge:
          score = 0x1p30F * (1.0F + x);
          break;
      }
      scores.push_back(score);
      stamps.push_back(static_cast<std::uint16_t>(65530U + random() % 12));
      unsigned const pinned = random() % 30 == 0 ? State::pinned : 0U;
      unsigned const flags = static_cast<unsigned>(random()) & (State::clean | State::carried);
      unsigned const fidelity = random() % 4 == 0 ? 2U : 0U;
      states.push_back(static_cast<std::uint8_t>(pinned | flags | fidelity));
    }
    auto const granules = static_cast<int>(n);
    low = std::min(granules, 4);
    high = std::max(granules - 33, low);
    facts.granules = granules;
    facts.protected_granules = granules - (high - low);
    facts.step = 65541;  // stamps have gone round
  }

  [[nodiscard]] bool is_candidate(std::size_t i) const {
    return static_cast<int>(i) >= low && static_cast<int>(i) < high &&
           (states[i] & (State::fidelity_mask | State::pinned)) == 0;
  }
};

struct Answer {
  std::vector<std::uint8_t> picks;
  std::vector<std::uint32_t> low_list;
  RetainResult result;
};

/// What host::retain_lane marks and lists.
Answer host_answer(HostLane const& lane, Scheduler const& scheduler) {
  std::size_t const n = lane.scores.size();
  Selection const selection = kvfreeze::detail::as_count(
      kvfreeze::detail::among_open(scheduler.retain(lane.facts), lane.facts.protected_granules),
      lane.high - lane.low);
  Answer answer;
  host::ScoreHistogram histogram;
  for (std::size_t i = 0; i < n; ++i) {
    bool const asked = lane.is_candidate(i);
    unsigned pick = asked ? RetainLane::candidate : 0U;
    auto const age =
        static_cast<std::uint16_t>(static_cast<std::uint16_t>(lane.facts.step) - lane.stamps[i]);
    bool const recent = selection.kind == Selection::Kind::recent &&
                        age < static_cast<std::uint32_t>(std::max(selection.count, 0));
    if (asked && (selection.kind == Selection::Kind::all || recent)) {
      pick |= RetainLane::wanted;
    }
    answer.picks.push_back(static_cast<std::uint8_t>(pick));
    if (asked) {
      histogram.add(lane.scores[i]);
    }
  }
  bool const by_score = selection.kind != Selection::Kind::all &&
                        selection.kind != Selection::Kind::none &&
                        selection.kind != Selection::Kind::recent;
  if (by_score) {
    host::mark_wanted(selection, histogram, lane.scores.data(), answer.picks.data(),
                      static_cast<int>(n), RetainLane::candidate, RetainLane::wanted);
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (answer.picks[i] == RetainLane::candidate) {
      answer.low_list.push_back(static_cast<std::uint32_t>(i));
    }
    answer.result.candidates += (answer.picks[i] & RetainLane::candidate) != 0 ? 1U : 0U;
  }
  answer.result.low = static_cast<std::uint32_t>(answer.low_list.size());
  return answer;
}

/// Lanes on the device.
struct DeviceLanes {
  explicit DeviceLanes(std::vector<HostLane> const& lanes, std::size_t skew = 0) {
    for (HostLane const& lane : lanes) {
      std::size_t const n = lane.scores.size();
      auto const skewed = [skew](auto values) {
        values.insert(values.begin(), skew, {});
        return values;
      };
      scores.push_back(test::upload(skewed(lane.scores)));
      stamps.push_back(test::upload(lane.stamps));
      states.push_back(test::upload(skewed(lane.states)));
      picks.push_back(test::filled(n + skew + 1, std::uint8_t{9}));
      lists.push_back(test::filled(n + 1, 99U));
      RetainLane out;
      out.facts = lane.facts;
      out.scores = scores.back().data() + skew;
      out.stamps = stamps.back().data();
      out.states = states.back().data() + skew;
      out.picks = picks.back().data() + skew;
      out.low_list = lists.back().data();
      out.low = lane.low;
      out.high = lane.high;
      described.push_back(out);
    }
    device = test::upload(described);
  }

  std::vector<DeviceArray<float>> scores;
  std::vector<DeviceArray<std::uint16_t>> stamps;
  std::vector<DeviceArray<std::uint8_t>> states, picks;
  std::vector<DeviceArray<std::uint32_t>> lists;
  std::vector<RetainLane> described;
  DeviceArray<RetainLane> device;
};

void check(std::vector<HostLane> const& lanes, Selection const& choice, std::size_t skew = 0) {
  CAPTURE(static_cast<int>(choice.kind), choice.value, choice.count);
  Scheduler const scheduler{choice};
  test::Stream const stream;
  DeviceLanes const device(lanes, skew);
  DeviceArray<RetainResult> const results(lanes.size());
  auto const stats = test::count(stream, [&] {
    retain_async(scheduler, DescribedRetains{device.device.span()}, results, stream);
  });
  if (stats) {
    CHECK(stats->kernel_launches == 1);
    CHECK(stats->host_syncs + stats->mallocs + stats->memsets == 0);
  }
  auto const found = test::download(results, stream);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    CAPTURE(i, lanes[i].scores.size(), skew);
    Answer const expected = host_answer(lanes[i], scheduler);
    auto picks = test::download(device.picks[i], stream);
    auto list = test::download(device.lists[i], stream);
    CHECK(found[i].candidates == expected.result.candidates);
    CHECK(found[i].low == expected.result.low);
    CHECK(picks.back() == 9);
    CHECK(list.back() == 99);
    picks.erase(picks.begin(), picks.begin() + static_cast<std::ptrdiff_t>(skew));
    picks.pop_back();
    list.resize(found[i].low);
    CHECK((picks == expected.picks));
    CHECK((list == expected.low_list));
  }
}

std::vector<HostLane> mixed_lanes(unsigned seed) {
  std::vector<HostLane> lanes;
  for (std::size_t const n : {0U, 1U, 38U, 100U, 2000U, 8192U, 8193U, 20000U}) {
    for (Spread const spread :
         {Spread::wide, Spread::close, Spread::few, Spread::zeros, Spread::tiny, Spread::huge}) {
      lanes.emplace_back(n, spread, ++seed);
    }
  }
  return lanes;
}

}  // namespace

TEST_CASE("What the slow clock retains is the host's", "[retain]") {
  unsigned seed = 1;
  std::vector<Selection> all = {Selection::all(), Selection::none()};
  for (float const x : {-1.0F, 0.0F, 1e-9F, 0.25F, 0.30005F, 1e6F, 1e38F}) {
    all.push_back(Selection::above(x));
  }
  for (float const x : {0.0F, 1e-12F, 0.01F, 5.0F, 3000.0F, 1e9F}) {
    all.push_back(Selection::all_but_mass(x));
  }
  for (int const n : {0, 1, 50, 60, 100, 1000, 5000, 1 << 20}) {
    all.push_back(Selection::highest(n));
  }
  for (float const p : {0.0F, 0.2F, 0.5F, 0.7F, 0.99F, 1.0F}) {
    all.push_back(Selection::above_quantile(p));
  }
  for (int const steps : {-1, 0, 1, 5, 70000}) {
    all.push_back(Selection::wanted_within(steps));
  }
  for (Selection const& choice : all) {
    check(mixed_lanes(seed), choice, seed % 3);
    seed += 100;
  }
}

TEST_CASE("Long lanes retain what the host retains", "[retain]") {
  std::vector<HostLane> const lanes = {{70000, Spread::wide, 1}, {70000, Spread::close, 2}};
  check(lanes, Selection::highest(20000));
  check(lanes, Selection::all_but_mass(100.0F));
}

TEST_CASE("Nothing is launched for no lanes", "[retain]") {
  test::Stream const stream;
  auto const stats = test::count(
      stream, [&] { retain_async(Scheduler{Selection::all()}, DescribedRetains{}, {}, stream); });
  CHECK((!stats || stats->kernel_launches == 0));
}
