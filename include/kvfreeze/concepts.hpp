#pragma once

/// @file
/// @brief The policy concepts. A policy is a small struct that has the required members below;
/// everything optional has a default in `policy_traits.hpp`.

#include <kvfreeze/digest/query.hpp>
#include <kvfreeze/evidence.hpp>
#include <kvfreeze/layout.hpp>
#include <kvfreeze/scheduler/lane_facts.hpp>
#include <kvfreeze/selection.hpp>
#include <kvfreeze/tier/request.hpp>
#include <kvfreeze/trigger/signals.hpp>
#include <kvfreeze/types.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace kvfreeze {

/// Can be passed to a kernel by value.
template <class T>
concept DevicePassable = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>;

namespace detail {

// Named atoms: a compiler that rejects a policy prints the one that failed.

template <class S>
concept HasScorerState = DevicePassable<typename S::State>;

template <class S>
concept StatesItsEvidence = requires {
  { S::evidence } -> std::convertible_to<Evidence>;
};

template <class S>
concept UpdatesItsState = requires(S const& s, typename S::State& state, RowEvidence const& row) {
  { s.update(state, row) } noexcept -> std::same_as<void>;
};

template <class S>
concept ScoreReturnsFloat =
    requires(S const& s, typename S::State const& state, RowEvidence const& row) {
      { s.score(state, row) } noexcept -> std::same_as<float>;
    };

template <class S>
concept RatesRows = requires(S const& s, RowContent const& row, LaneMoments const& lane) {
  { s.rate(row, lane) } noexcept -> std::same_as<float>;
};

template <class S>
concept SelectsForRecall = requires(S const& s, LaneFacts const& lane) {
  { s.recall(lane) } noexcept -> std::same_as<Selection>;
};

template <class S>
concept SelectsToRetain = requires(S const& s, LaneFacts const& lane) {
  { s.retain(lane) } noexcept -> std::same_as<Selection>;
};

template <class S>
concept SleepReturnsSteps = requires(S const& s, int detections) {
  { s.sleep(detections) } noexcept -> std::same_as<int>;
};

template <class T>
concept StoresBatches = requires(T& t, std::span<StoreRequest const> batch) {
  { t.store(batch) } -> std::same_as<void>;
};

template <class T>
concept LoadsBatches = requires(T& t, std::span<LoadRequest const> batch) {
  { t.load(batch) } -> std::same_as<void>;
};

template <class T>
concept ErasesRanges = requires(T& t, TierKey first, std::uint32_t count) {
  { t.erase(first, count) } noexcept -> std::same_as<void>;
};

template <class T>
concept CountsItsBytes = requires(T const& t) {
  { t.bytes() } noexcept -> std::same_as<std::size_t>;
};

template <class T>
concept ObservesSteps = requires(T& t, StepSignals const& signals) {
  { t.observe(signals) } noexcept -> std::same_as<Recovery>;
};

template <class T>
concept Resets = requires(T& t) {
  { t.reset() } noexcept -> std::same_as<void>;
};

template <class D>
concept StatesItsGroup = requires(int dim) {
  { D::group_rows } -> std::convertible_to<int>;
  { D::bytes(dim) } noexcept -> std::same_as<std::size_t>;
};

template <class D>
concept EncodesKeys = requires(float const* keys, int dim, std::byte* group) {
  { D::encode(keys, dim, group) } noexcept -> std::same_as<void>;
};

template <class D>
concept ScansGroups = requires(DigestQuery const& query, std::byte const* group, float* logits,
                               std::ptrdiff_t stride) {
  { D::scan(query, group, logits, stride) } noexcept -> std::same_as<void>;
};

}  // namespace detail

/// @brief Says how much a granule matters.
///
/// - `using State`: memory per granule, zero-initialised; `NoState` if it needs none.
/// - `static constexpr Evidence evidence`: what the backend must compute.
/// - `void update(State&, RowEvidence const&) const noexcept`: once per step for each granule of
///   which there is evidence: all awake ones with Evidence::mass and a digest, exact ones
///   otherwise.
/// - `float score(State const&, RowEvidence const&) const noexcept`: finite, >= 0, higher is kept.
/// - with Evidence::rows `float rate(RowContent const&, LaneMoments const&) const noexcept`: what
///   the row's own elements are worth, finite; with Evidence::lag `int lag() const`, rows of a
///   chunk, at most 4096.
///
/// Optional: `using Digest` (a DigestPolicy; without one frozen granules cannot be recalled by
/// content), `int queries() const` (window of Evidence::queries, default 32), `int prompt_queries()
/// const` (how many of a prefill chunk's last queries give evidence of mass, each an update(): 4
/// with a digest, 1 without), `int pooled_rows() const` (scores are averaged over so many
/// neighbouring granules before they are ranked; odd, 1: not).
template <class S>
concept ScorerPolicy =
    DevicePassable<S> && detail::HasScorerState<S> && detail::StatesItsEvidence<S> &&
    detail::UpdatesItsState<S> && detail::ScoreReturnsFloat<S>;

/// @brief Says who freezes, who thaws, and for how long a granule sleeps.
///
/// - `Selection recall(LaneFacts const&) const noexcept`: which awake frozen granules are thawed
///   before this step's attention.
/// - `Selection retain(LaneFacts const&) const noexcept`: which exact granules stay, on the slow
///   clock; the others are *detections*.
/// - `int sleep(int detections) const noexcept`: periods to sleep after the c-th detection, >= 0.
///
/// Optional: `static constexpr bool timed` (a granule freezes only when its sleep is positive;
/// off), `static constexpr bool sleeps` (keep counters and timers; default: `timed`), `static
/// constexpr bool eager` (thaw at expiry without asking the digest; off), `int period() const`
/// (slow clock, steps, default 1), `int count(int previous, bool low, int steps_since_detection)
/// const` (default: +1 when low), `float base_level() const` (its own epsilon, reported beside the
/// water level; positive says that its selections go by mass, so that a water level can meet the
/// cap), `float capped_level() const` (the same where there is a byte cap: the water's least level;
/// default: base_level()), `float share(LaneFacts const&) const` (the lane's part of a byte cap
/// relative to the mean lane's; default: equal parts), `static constexpr bool needs_entropy`,
/// `needs_layer_parts`, `needs_sequence_shares` (LaneFacts' fields of these names; off), `static
/// constexpr bool rises` (on the ladder rows rise again when a query needs them; on), `static
/// constexpr bool by_rank` (rungs() gives ranks; off: the device asks before it compiles), `float
/// hysteresis() const` (share of a mass selection's value at which exact granules still count as
/// wanted, in (0, 1], default 1).
template <class S>
concept SchedulerPolicy = DevicePassable<S> && detail::SelectsForRecall<S> &&
                          detail::SelectsToRetain<S> && detail::SleepReturnsSteps<S>;

/// @brief Keeps the exact rows that are not active.
///
/// - `void store(std::span<StoreRequest const>)`: all or nothing; throws TierError. Idempotent.
/// - `void load(std::span<LoadRequest const>)`: all or nothing; throws TierError. Keeps its copy.
/// - `void erase(TierKey first, std::uint32_t count) noexcept`: forgets granules of one lane.
/// - `std::size_t bytes() const noexcept`: memory held.
///
/// Calls for different lanes may run at the same time; calls for one lane do not, nor for lanes of
/// the same number in sequences that were forked from one another.
/// Optional: `void fork(std::uint32_t from, std::uint32_t to)`: sequence `to`, which holds nothing,
/// holds what `from` holds, and each goes its own way; all or nothing, throws TierError. Without it
/// the cache loads and stores the rows. `static constexpr TierKind kind` (holding), `static
/// constexpr bool lossless` (true), `void attach(TierGeometry const&)`, `std::size_t capacity()
/// const noexcept` (bytes, unlimited).
template <class T>
concept TierPolicy = std::movable<T> && detail::StoresBatches<T> && detail::LoadsBatches<T> &&
                     detail::ErasesRanges<T> && detail::CountsItsBytes<T>;

/// @brief Says that the model is in trouble. One copy per sequence.
///
/// - `Recovery observe(StepSignals const&) noexcept`: once per step.
/// - `void reset() noexcept`: a new sequence begins.
///
/// Optional: `static constexpr Recovery highest` (the hardest level it can ask for, default full),
/// `static constexpr bool needs_query_cosine` (false), `int window_steps() const` (N of WR, 32),
/// `int rewind_tokens() const` (k of RR, 16). One that is not trivially copyable, so that its bytes
/// say nothing: `std::vector<std::byte> save() const` and `void restore(std::span<std::byte
/// const>)` (throws FormatError), without which its sequences cannot be saved.
template <class T>
concept TriggerPolicy = std::copyable<T> && detail::ObservesSteps<T> && detail::Resets<T>;

/// @brief The resident code of a group of keys.
///
/// - `static constexpr int group_rows`: keys encoded together; a multiple of 16, or 0 for none.
/// - `static std::size_t bytes(int dim) noexcept`: of one group of one KV head.
/// - `static void encode(float const* keys, int dim, std::byte* group) noexcept`: `keys` is
///   [group_rows][dim].
/// - `static void scan(DigestQuery const&, std::byte const* group, float* logits,
///   std::ptrdiff_t stride) noexcept`: estimated logits in octaves, `logits[h * stride + row]`.
///
/// Optional: `static void encode(float const* keys, float const* importance, int dim,
/// std::byte* group) noexcept`, which the cache then calls: `importance` is [dim], the sum of the
/// lane's squared queries by channel, or null before there are any.
template <class D>
concept DigestPolicy =
    detail::StatesItsGroup<D> && detail::EncodesKeys<D> && detail::ScansGroups<D>;

}  // namespace kvfreeze
