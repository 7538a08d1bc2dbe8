#pragma once

/// @file
/// @brief The host's recall of a lane made by hand: what selections on the device are compared to.

#include <kvfreeze/gpu/recall_lane.cuh>
#include <kvfreeze/host/mark.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <gpu/chosen_scheduler.cuh>
#include <limits>
#include <random>
#include <vector>

namespace kvfreeze::gpu::test {

using State = host::GranuleState;

constexpr int unlimited_granules = std::numeric_limits<int>::max();

/// What a recall selects by.
enum class Scores : std::uint8_t { masses, dots, none };

/// As much of a composition as host::mark_for_recall and host::list_thaws ask for.
template <Scores Kind, bool Eager, int Page>
struct RecallOf {
  struct Scorer {
    using State = NoState;
  };

  using Scheduler = ChosenScheduler<Eager>;
  using Value = float;
  static constexpr int page = Page;
  static constexpr int levels = 0;
  static constexpr bool has_levels = false;
  static constexpr bool sleeps = false;
  static constexpr bool has_state = false;
  static constexpr bool in_place = false;
  static constexpr bool discards = false;
  static constexpr bool scores_in_slots = false;
  static constexpr bool needs_entropy = false;
  static constexpr bool needs_layer_parts = false;
  static constexpr bool needs_sequence_shares = false;
  static constexpr bool rates = false;
  static constexpr bool has_digest = Kind != Scores::none;
  static constexpr bool needs_queries = Kind == Scores::dots;
  static constexpr int tail_granules = has_digest ? 64 / Page : 1;
};

}  // namespace kvfreeze::gpu::test

/// What those functions ask of a context.
template <kvfreeze::gpu::test::Scores Kind, bool Eager, int Page>
struct kvfreeze::host::Context<kvfreeze::gpu::test::RecallOf<Kind, Eager, Page>> {
  kvfreeze::gpu::test::ChosenScheduler<Eager> scheduler;
  std::array<float, water_levels> levels{};
};

namespace kvfreeze::gpu::test {

/// How the scores of a lane are distributed.
enum class Spread : std::uint8_t { masses, equal, zeros, few };

/// A lane before a recall, on the host.
struct HostLane {
  std::vector<std::uint32_t> scores;
  std::vector<std::uint8_t> states;
  int allowed = unlimited_granules;
  std::uint32_t affordable = RecallLane::unlimited;

  HostLane(std::size_t n, Spread spread, unsigned seed) {
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < n; ++i) {
      auto const x = static_cast<std::uint32_t>(random());
      auto const shift = static_cast<std::uint32_t>(random() % 30);
      scores.push_back(spread == Spread::masses  ? x >> 2 >> shift
                       : spread == Spread::equal ? 123456U
                       : spread == Spread::zeros ? 0U
                                                 : 1000U * (x % 3));
      constexpr std::array<Fidelity, 8> often = {
          Fidelity::exact,  Fidelity::exact,  Fidelity::frozen, Fidelity::frozen,
          Fidelity::frozen, Fidelity::frozen, Fidelity::asleep, Fidelity::evicted};
      auto const flag = [&](std::uint8_t bit, unsigned one_of) {
        return random() % one_of == 0 ? unsigned{bit} : 0U;
      };
      unsigned state = static_cast<unsigned>(often[random() % often.size()]);
      state |= flag(State::clean, 2) | flag(State::pinned, 50) | flag(State::forced, 40);
      state |= flag(State::carried, 10);
      states.push_back(static_cast<std::uint8_t>(state));
    }
  }
};

/// What a recall makes of a lane.
struct Answer {
  std::vector<std::uint8_t> wanted, states;
  std::vector<std::uint32_t> thaws;
  RecallResult result;
  std::array<std::uint32_t, host::water_levels> demand{};
};

inline LaneFacts facts_of(HostLane const& lane, int low, int high) {
  LaneFacts facts;
  facts.granules = static_cast<int>(lane.scores.size());
  facts.allowed = lane.allowed;
  facts.protected_granules = facts.granules - (high - low);
  for (int i = low; i < high; ++i) {
    facts.protected_granules +=
        (lane.states[static_cast<std::size_t>(i)] & State::pinned) != 0 ? 1 : 0;
  }
  return facts;
}

/// The host's recall of one lane.
template <Scores Kind, bool Eager, int Page>
class HostRecall {
 public:
  using C = RecallOf<Kind, Eager, Page>;

  HostRecall(ChosenScheduler<Eager> const& scheduler, std::vector<float> const& levels,
             int heads = 1)
      : geometry_(small_geometry(heads)), scratch_(geometry_) {
    context_.scheduler = scheduler;
    std::copy(levels.begin(), levels.end(), context_.levels.begin());
    scratch_.commit(geometry_.limits.max_tokens);
  }

  /// The granules that may freeze.
  [[nodiscard]] typename host::LaneRef<C>::Open open(HostLane const& lane) {
    return job(lane).ref.open_range();
  }

  Answer run(HostLane const& lane) {
    host::LaneJob<C> const job = this->job(lane);
    std::copy(lane.scores.begin(), lane.scores.end(), host::recall_scores(job));
    return decide(job, lane);
  }

  /// @param logits [heads][stride], octaves
  /// @param scores made of them, by granule
  Answer run_from_logits(HostLane const& lane, int rows, std::vector<float> const& logits,
                         std::size_t stride, std::vector<std::uint32_t>& scores) {
    host::LaneJob<C> const job = this->job(lane);
    lane_.rows = rows;
    for (int h = 0; h < geometry_.lane_queries; ++h) {
      std::copy_n(logits.data() + static_cast<std::size_t>(h) * stride, rows,
                  scratch_.logits() + h * scratch_.stride());
    }
    host::estimate_scores(job);
    scores.assign(host::recall_scores(job), host::recall_scores(job) + lane.scores.size());
    return decide(job, lane);
  }

  [[nodiscard]] host::Geometry const& geometry() const { return geometry_; }

 private:
  Answer decide(host::LaneJob<C> const& job, HostLane const& lane) {
    std::size_t const n = lane.scores.size();
    std::copy(lane.states.begin(), lane.states.end(), scratch_.states());
    tiles_.resize(n / host::tile_granules + 1);
    for (std::size_t i = 0; i < n; ++i) {
      job.ref.state(static_cast<std::uint32_t>(i)) = lane.states[i];
    }
    auto const open = job.ref.open_range();
    LaneFacts const facts = facts_of(lane, open.low, open.high);
    Answer answer;
    answer.result.keep_from = host::mark_for_recall(job, facts);
    answer.wanted.assign(scratch_.wanted(), scratch_.wanted() + n);
    int const limit = lane.affordable == RecallLane::unlimited ? unlimited_granules
                                                               : static_cast<int>(lane.affordable);
    int const count = host::list_thaws(job, facts.granules, limit);
    answer.thaws.assign(scratch_.list(), scratch_.list() + count);
    for (std::size_t i = 0; i < n; ++i) {
      answer.states.push_back(job.ref.state(static_cast<std::uint32_t>(i)));
    }
    answer.result.wanted = static_cast<std::uint32_t>(
        std::count(answer.wanted.begin(), answer.wanted.end(), std::uint8_t{1}));
    answer.result.thaws = static_cast<std::uint32_t>(count);
    answer.result.deferred = lane_.deferred;
    answer.result.over_cap = lane_.over_cap ? 1 : 0;
    answer.demand = lane_.demand;
    return answer;
  }

  static host::Geometry small_geometry(int heads) {
    host::Geometry g;
    g.shape.head_dim = 8;
    g.limits.max_tokens = 80000;
    g.limits.sinks = 4;
    g.limits.window = 33;
    g.page = Page;
    g.group = heads;
    g.lane_queries = heads;
    g.dot_limit = 1048000.0F / static_cast<float>(32 * heads);
    g.part_bytes = 16;
    return g;
  }

  host::LaneJob<C> job(HostLane const& lane) {
    tiles_.resize(lane.scores.size() / host::tile_granules + 1);
    lane_ = {};
    lane_.rows = static_cast<int>(lane.scores.size()) * Page;
    lane_.groups = lane_.rows / 64;
    lane_.budget = 1;  // demand is noted
    host::LaneJob<C> job;
    job.context = &context_;
    job.scratch = &scratch_;
    job.ref.geometry = &geometry_;
    job.ref.lane = &lane_;
    job.ref.tiles = reinterpret_cast<std::byte*>(tiles_.data());
    job.ref.tile_stride = sizeof(host::GranuleTile<C>);
    return job;
  }

  host::Geometry geometry_;
  host::Scratch scratch_;
  host::Context<C> context_;
  host::Lane<C> lane_;
  std::vector<host::GranuleTile<C>> tiles_;
};

}  // namespace kvfreeze::gpu::test
