#pragma once

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/host/arguments.hpp>
#include <kvfreeze/host/decode.hpp>
#include <kvfreeze/host/fork.hpp>
#include <kvfreeze/host/limit.hpp>
#include <kvfreeze/host/open_close.hpp>
#include <kvfreeze/host/restore.hpp>
#include <kvfreeze/host/save.hpp>
#include <kvfreeze/host/step.hpp>
#include <kvfreeze/host/view.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scheduler/water_level_scheduler.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>

#include <algorithm>
#include <cmath>
#include <istream>
#include <limits>
#include <ostream>
#include <span>
#include <string>
#include <utility>

namespace kvfreeze {

/// @brief A KV cache whose resident part stays small. `KvFreezeCache cache(shape, limits)` is
/// presets::KvFreeze.
///
/// The engine owns model, sampler and threads; the cache owns K and V. Per layer and token:
/// `attend()` (or `append()`, `recall()`, an attention of the engine's own over `view()` or
/// `gather()`, and `observe()`); per token, after all layers: `advance()`.
///
/// Spans hold whole tokens, densely: q and out [tokens][query_heads][head_dim], k and v
/// [tokens][kv_heads][head_dim]. More than one token is a prefill chunk.
///
/// Threads: calls for one layer may run at the same time with different `Part`s of one count;
/// everything else is one call at a time. After construction nothing allocates, except `pin()`.
///
/// Guarantee: a call that throws loses no row. Repeating `attend()` or `append()` for a layer
/// before `advance()` replaces that layer's rows of the step.
///
/// @tparam L how rows lie, @see Layout
/// @tparam Scorer how much a row matters, @see ScorerPolicy
/// @tparam Scheduler who freezes and who comes back, @see SchedulerPolicy
/// @tparam Tier where frozen rows live, @see TierPolicy
/// @tparam Trigger when to thaw against the scheduler's will, @see TriggerPolicy
template <LayoutPolicy L = Layout<>, ScorerPolicy Scorer = InstantMassScorer<KeyCodes<4>>,
          SchedulerPolicy Scheduler = WaterLevelScheduler<>, TierPolicy Tier = HostTier,
          TriggerPolicy Trigger = MissedMassTrigger>
class KvFreezeCache {
  using C = host::Composition<L, Scorer, Scheduler, Tier, Trigger>;

 public:
  using layout_type = L;
  using element_type = typename L::element_type;
  using scorer_type = Scorer;
  using scheduler_type = Scheduler;
  using tier_type = Tier;
  using trigger_type = Trigger;

  /// @brief Reserves address space for everything; commits only work space.
  /// @throws InvalidArgument for a shape, limit or policy parameter out of range
  /// @throws CapacityError if `limits.resident_bytes` cannot hold one sequence of `max_tokens`
  /// @throws OutOfMemory if the system refuses the address space
  explicit KvFreezeCache(Shape shape, Limits limits = {}, Scorer scorer = {},
                         Scheduler scheduler = {}, Tier tier = Tier(), Trigger trigger = {})
      : context_{host::Memory<C>(shape, limits, validated(scorer)), scorer, validated(scheduler),
                 std::move(tier), validated(trigger)} {
    detail::validate_policy(context_.tier);
    host::check_least(context_);
    auto const& g = context_.geometry();
    detail::attach_tier(context_.tier, {static_cast<std::uint32_t>(limits.max_sequences),
                                        static_cast<std::uint32_t>(g.lanes),
                                        static_cast<std::uint32_t>(g.max_granules), g.part_bytes});
    context_.levels = host::water_epsilons(detail::capped_level(scheduler));
    context_.sequences.assign(static_cast<std::size_t>(limits.max_sequences),
                              host::SequenceRecord<C>{.pins = {}, .trigger = context_.trigger});
  }

  /// @brief Begins an empty sequence.
  /// @throws CapacityError if `max_sequences` are open, or the byte cap cannot hold another one
  [[nodiscard]] Sequence open() {
    return begin(host::claim_sequence(context_, "open"), [] {});
  }

  /// @brief Forgets a sequence and gives its memory back.
  /// @throws UnknownSequence
  void close(Sequence handle) {
    static_cast<void>(record(handle));
    host::close_sequence(context_, handle.index);
  }

  /// @brief A new sequence that is what `parent` is: tokens, fidelities, timers, scores, trigger,
  /// pins, what waits. From here on both go their own ways, and each decides as if it were alone.
  /// For beam search, shared prompts, drafts.
  ///
  /// What is resident is copied, committed pages only: it is moved together as rows come and go, so
  /// that two sequences cannot share it. Rows in the tier are shared until one of the two stores
  /// anew, by a tier that can (TierPolicy's `fork`: HostTier, its decorators); others copy them.
  /// Under a byte cap all open sequences get smaller shares, as with open(), then the parent is
  /// copied as it is.
  /// @throws UnknownSequence
  /// @throws InvalidArgument if a step of the parent is not finished
  /// @throws CapacityError if `max_sequences` are open, or the byte cap does not hold another one
  /// like it; the parent keeps its rows
  /// @throws TierError if the tier fails; nothing is lost, there is no child
  /// @complexity O(resident bytes of the parent), and O(its granules) in the tier
  [[nodiscard]] Sequence fork(Sequence parent) {
    static_cast<void>(record(parent));
    host::require_fork(context_, parent.index);
    auto const child = host::claim_sequence(context_, "fork");
    return begin(child, [&] { host::fill_fork(context_, parent.index, child); });
  }

  /// @brief Writes a sequence to a stream, as it is between two steps: its exact rows wherever they
  /// are, digests, codes, metadata, trigger, pins. docs/sessions.md has the format: versioned,
  /// checksummed, the same wherever it is written. Rows that are evicted are not in it.
  ///
  /// The sequence goes on as if nothing had happened. Sequences may follow one another in a stream.
  /// @throws UnknownSequence
  /// @throws InvalidArgument if a step is not finished
  /// @throws StreamError if the stream refuses bytes: what it has is of no use then
  /// @throws TierError if the tier cannot give rows, likewise
  /// @complexity O(bytes of all rows); allocates some 64 granules, and a lane's metadata and codes
  void save(Sequence handle, std::ostream& stream)
    requires detail::SavableTrigger<Trigger>
  {
    static_cast<void>(record(handle));
    host::save_sequence(context_, handle.index, stream);
  }

  /// @brief Reads a sequence that save() wrote, from a cache of the same types, shape, policy
  /// settings, sinks and window. It goes on bit for bit as the one that was saved: same decisions,
  /// same outputs, where the byte cap, the transfer budget and the number of open sequences are the
  /// same too. They need not be, nor max_tokens, parts or the tier.
  ///
  /// Under a smaller cap those rows come back exact that limit() would have left so; nothing is
  /// ever resident beyond the cap. The stream is left behind the sequence's last byte.
  /// @throws FormatError if the bytes are damaged, end early or come from another composition,
  /// naming what differs and both values
  /// @throws CapacityError if max_sequences are open, max_tokens or the byte cap does not hold it
  /// @throws TierError if the tier refuses rows, or those of others that make room
  /// After an error no sequence was added; under a byte cap others may have frozen rows.
  /// @complexity as save()
  [[nodiscard]] Sequence restore(std::istream& stream)
    requires detail::SavableTrigger<Trigger>
  {
    host::BlockReader in(stream);
    host::check_description(context_, in);
    auto saved = host::read_record(context_, in);
    auto const index = host::claim_sequence(context_, "restore", saved.record.length);
    host::fill_record(context_, index, saved);
    return begin(index, [&] { host::fill_lanes(context_, index, saved, in); });
  }

  /// @brief Tokens of the sequence, finished steps only.
  /// @throws UnknownSequence
  [[nodiscard]] int length(Sequence handle) const { return record(handle).length; }

  /// @brief Forgets the tokens from `length` on (speculative decoding, Rewalk Regeneration).
  /// @throws InvalidArgument if `length` is negative or beyond the end, or cuts an evicted granule
  /// @throws TierError if rows that must be exact again cannot be loaded: the tokens are forgotten
  /// all the same, and the sequence's next call tries again
  void truncate(Sequence handle, int length) {
    auto& sequence = record(handle);
    if (length < 0 || length > sequence.length) {
      throw InvalidArgument("truncate(): length " + std::to_string(length) + " is outside [0, " +
                            std::to_string(sequence.length) + "]");
    }
    host::rewalk(context_, handle.index, length);
  }

  /// @brief Keeps ranges of tokens exact from now on; replaces earlier pins. Ranges may lie in the
  /// future. Frozen rows in them come back with the next recall.
  /// @throws InvalidArgument if the ranges are not sorted, overlap, are empty or out of range
  void pin(Sequence handle, std::span<TokenRange const> ranges) {
    auto& sequence = record(handle);
    host::check_pins(context_.geometry().limits, ranges);
    sequence.pins.assign(ranges.begin(), ranges.end());
    auto const lanes = static_cast<std::uint32_t>(context_.geometry().lanes);
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      auto const ref = context_.memory.lane(handle.index, lane);
      auto const granules = static_cast<std::uint32_t>(ref.granules());
      for (std::uint32_t granule = 0; granule < granules; ++granule) {
        ref.state(granule) &= static_cast<std::uint8_t>(~host::GranuleState::pinned);
      }
      for (TokenRange const& range : ranges) {
        int const end = std::min(range.end, ref.lane->rows);
        for (int position = range.begin; position < end; position += 1) {
          ref.state(static_cast<std::uint32_t>(position / C::page)) |= host::GranuleState::pinned;
        }
      }
      host::force_where(ref, [&](std::uint32_t granule) {
        return (ref.state(granule) & host::GranuleState::pinned) != 0;
      });
    }
  }

  /// @brief Gives the lanes of a sequence their shares, for schedulers that say
  /// `needs_sequence_shares`: SequenceShares. In force from the next call on; fork(), save() and
  /// restore() keep them, a new sequence begins with 1.
  /// @param shares [layers][lanes_per_layer], relative to the mean lane, in [0, 1024]
  /// @throws UnknownSequence; InvalidArgument for their number, or a share out of range: nothing
  /// has changed then
  template <class Policy = Scheduler>
    requires(detail::needs_sequence_shares<Policy>())
  void set_shares(Sequence handle, std::span<float const> shares) {
    static_cast<void>(record(handle));
    host::check_shares(shares, static_cast<std::size_t>(context_.geometry().lanes));
    for (std::uint32_t lane = 0; lane < shares.size(); ++lane) {
      context_.memory.lane(handle.index, lane).lane->share.value = shares[lane];
    }
  }

  /// @brief Appends K and V of the step's tokens to one layer.
  /// @throws InvalidArgument for wrong sizes, a layer out of range or values that are not finite
  /// @throws CapacityError past `max_tokens`, or if the byte cap cannot hold what must be exact
  void append(Sequence handle, int layer, std::span<float const> k, std::span<float const> v,
              Part part = {}) {
    auto& sequence = record(handle);
    int const tokens = host::check_rows<element_type>(context_.geometry(), "append",
                                                      sequence.length, layer, k, v, part);
    for_lanes(handle, layer, part, [&](host::LaneJob<C> const& job) {
      host::begin_lane_step(job, tokens);
      if constexpr (!C::in_place) {
        auto const& g = job.geometry();
        host::require_room(job, g.granules(job.lane().rows + tokens) - job.ref.granules(),
                           job.lane().rows + tokens);
      }
      host::append_rows(job, new_rows(k, v, tokens), 0, tokens);
    });
  }

  /// @brief Thaws what the current queries need, within the budgets. One token: the step's last.
  /// @param q [query_heads][head_dim]
  /// @throws TierError if the tier fails; nothing is lost, the call may be repeated
  void recall(Sequence handle, int layer, std::span<float const> q, Part part = {}) {
    static_cast<void>(record(handle));
    host::check_queries(context_.geometry(), "recall", layer, q, 1, part);
    for_lanes(handle, layer, part, [&](host::LaneJob<C> const& job) {
      float const* const lane_q = lane_queries(job, q.data());
      host::note_importance(job, lane_q, 1, 0);
      host::recall_token(job, lane_q);
    });
  }

  /// @brief Attention of one token over the compact rows alone, for a kernel of one's own that
  /// knows only exact rows: after recall(), beside view(). host::merge() joins the two.
  /// @param q [query_heads][head_dim]
  /// @param out [query_heads][head_dim]
  /// @param lse [query_heads], natural log-sum-exp; minus infinity where no row is compact
  /// @throws InvalidArgument for spans of the wrong size
  /// @complexity as attend(): one digest scan, and the compact rows
  void partial(Sequence handle, int layer, std::span<float const> q, std::span<float> out,
               std::span<float> lse, Part part = {}) {
    static_cast<void>(record(handle));
    host::check_queries(context_.geometry(), "partial", layer, q, 1, part);
    host::check_partial(context_.geometry(), q, out, lse);
    for_lanes(handle, layer, part, [&](host::LaneJob<C> const& job) {
      float const* const lane_q = lane_queries(job, q.data());
      host::decode_compact(job, lane_q, out.data() + (lane_q - q.data()),
                           lse.data() + job.head * job.geometry().lane_queries);
    });
  }

  /// @brief Append, recall, attention and evidence of one layer in one call.
  ///
  /// One token: attention over the exact and compact rows, after recall; on the ladder frozen rows
  /// count with their estimated weight and the lane's mean value. More: causal attention of the
  /// chunk over every row, frozen ones read through the tier.
  /// @throws as append() and recall()
  void attend(Sequence handle, int layer, std::span<float const> q, std::span<float const> k,
              std::span<float const> v, std::span<float> out, Part part = {}) {
    auto& sequence = record(handle);
    int const tokens = host::check_rows<element_type>(context_.geometry(), "attend",
                                                      sequence.length, layer, k, v, part);
    host::check_queries(context_.geometry(), "attend", layer, q, tokens, part);
    if (out.size() != q.size()) {
      throw InvalidArgument("attend(): out has " + std::to_string(out.size()) +
                            " elements, q has " + std::to_string(q.size()));
    }
    auto const& shape = context_.geometry().shape;
    int const stride = shape.query_heads * shape.head_dim;
    for_lanes(handle, layer, part, [&](host::LaneJob<C> const& job) {
      host::begin_lane_step(job, tokens);
      float const* const lane_q = lane_queries(job, q.data());
      float* const lane_out = out.data() + (lane_q - q.data());
      host::note_importance(job, lane_q, tokens, stride);
      if (tokens > 1) {
        host::prefill_lane(job, {new_rows(k, v, tokens), lane_q, lane_out, stride});
        return;
      }
      if constexpr (!C::in_place) {
        auto const& g = job.geometry();
        host::require_room(job, g.granules(job.lane().rows + 1) - job.ref.granules(),
                           job.lane().rows + 1);
      }
      host::append_rows(job, new_rows(k, v, 1), 0, 1);
      host::decode_token(job, lane_q, lane_out);
    });
  }

  /// @brief The exact rows of a lane in position order, where they lie. @see host::PagedView
  [[nodiscard]] host::PagedView<element_type> view(Sequence handle, int layer, int lane,
                                                   Part part = {}) {
    static_cast<void>(record(handle));
    host::check_lane(context_.geometry(), "view", layer, lane);
    host::check_part(context_.geometry(), "view", part);
    auto const job = lane_job(handle, layer, lane, part);
    auto const& g = job.geometry();
    job.scratch->commit(job.lane().rows);
    host::RowList const list = host::list_rows(job, true);
    std::uint32_t* const slots = job.scratch->list();
    auto* const positions = reinterpret_cast<std::int32_t*>(job.scratch->slots());
    for (int i = 0; i < list.count; ++i) {
      slots[i] = list.slots != nullptr ? list.slots[i] : static_cast<std::uint32_t>(i);
    }
    for (int i = 0; i < list.count; ++i) {
      positions[i] = host::position_of(job.ref, slots[i]);
    }
    auto const rows = static_cast<std::size_t>(list.count);
    return {job.ref.rows(),   g.block_bytes, host::block_rows, g.heads_per_lane,
            g.shape.head_dim, {slots, rows}, {positions, rows}};
  }

  /// @brief Dense copy of the exact rows of a lane in position order.
  /// @param k, v [rows][heads of the lane][head_dim], room for `exact_rows()` rows
  /// @return rows written
  /// @throws InvalidArgument if a span is too small
  int gather(Sequence handle, int layer, int lane, std::span<element_type> k,
             std::span<element_type> v, std::span<std::int32_t> positions, Part part = {}) {
    auto const rows = view(handle, layer, lane, part);
    auto const width = static_cast<std::size_t>(rows.heads * rows.head_dim);
    auto const count = static_cast<std::size_t>(rows.rows());
    if (k.size() < count * width || v.size() < count * width || positions.size() < count) {
      throw InvalidArgument("gather(): " + std::to_string(count) + " rows of " +
                            std::to_string(width) + " elements do not fit k (" +
                            std::to_string(k.size()) + "), v (" + std::to_string(v.size()) +
                            ") or positions (" + std::to_string(positions.size()) + ")");
    }
    for (std::size_t i = 0; i < count; ++i) {
      std::copy_n(rows.k(static_cast<int>(i)), width, k.data() + i * width);
      std::copy_n(rows.v(static_cast<int>(i)), width, v.data() + i * width);
      positions[i] = rows.positions[i];
    }
    return rows.rows();
  }

  /// @brief Evidence of a foreign attention: from the queries alone, or with what it exports.
  /// @param q [query_heads][head_dim]
  /// @param lse [query_heads], natural log-sum-exp over the rows of view(), or empty
  /// @param weights for each lane of the layer, one after the other: [its query heads][rows of its
  /// view()], or empty
  void observe(Sequence handle, int layer, std::span<float const> q,
               std::span<float const> lse = {}, std::span<float const> weights = {},
               Part part = {}) {
    static_cast<void>(record(handle));
    host::check_queries(context_.geometry(), "observe", layer, q, 1, part);
    auto const& g = context_.geometry();
    if (!lse.empty() && lse.size() != static_cast<std::size_t>(g.shape.query_heads)) {
      throw InvalidArgument("observe(): lse has " + std::to_string(lse.size()) +
                            " elements, query_heads is " + std::to_string(g.shape.query_heads));
    }
    std::size_t expected = 0;
    for (int lane = 0; lane < g.lanes_per_layer; ++lane) {
      expected += weights_of(handle, layer, lane);
    }
    if (!weights.empty() && weights.size() != expected) {
      throw InvalidArgument("observe(): weights has " + std::to_string(weights.size()) +
                            " elements, the layer's views need " + std::to_string(expected));
    }
    for_lanes(handle, layer, part, [&](host::LaneJob<C> const& job) {
      std::size_t first = 0;
      for (int lane = 0; lane < job.head; ++lane) {
        first += weights_of(handle, layer, lane);
      }
      host::observe_lane(job, lane_queries(job, q.data()),
                         lse.empty() ? nullptr : lse.data() + job.head * g.lane_queries,
                         weights.empty() ? nullptr : weights.data() + first);
    });
  }

  /// @brief Ends the step: freezes, budgets, watches for trouble, reports. After all layers.
  /// @param logits of the step's last token; empty if the trigger needs none
  /// @throws InvalidArgument if a layer is missing or a logit is NaN or +infinity
  /// @throws TierError if a row could not be stored; it stays exact and the step is finished
  StepReport advance(Sequence handle, std::span<float const> logits = {}) {
    static_cast<void>(record(handle));
    return host::end_step(context_, handle.index, logits);
  }

  /// @brief Full Reset, now: every row that the tier holds is exact when this returns.
  /// @throws CapacityError if the byte cap does not hold them; nothing is thawed then
  void thaw(Sequence handle) {
    static_cast<void>(record(handle));
    auto const& g = context_.geometry();
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(g.lanes); ++i) {
      auto const job = host::lane_job(context_, handle.index, i);
      int const wanted = job.ref.granules() - job.lane().evicted;
      int const allowed = host::allowed_granules<C>(g, job.lane().budget, job.lane().rows);
      if (!C::in_place && wanted > allowed) {
        std::size_t const needed =
            host::lane_bytes<C>(g, wanted, job.lane().rows) * static_cast<std::size_t>(g.lanes);
        throw CapacityError("thaw(): Limits::resident_bytes is " +
                                std::to_string(g.limits.resident_bytes) + ", all rows need " +
                                std::to_string(needed),
                            needed, g.limits.resident_bytes);
      }
    }
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(g.lanes); ++i) {
      host::thaw_lane(host::lane_job(context_, handle.index, i));
    }
  }

  /// @brief Sets `Limits::resident_bytes`, at any time between steps: less when memory is short,
  /// more when it is not. Rows that no longer fit freeze before this returns, whatever the transfer
  /// budget; the bytes that they move are in no step's report.
  ///
  /// Who gives way is up to the policies: a lane over its new budget asks the scheduler which of
  /// its rows it retains, by the scorer's scores; on the ladder codes go first. What is still too
  /// much goes by when it was wanted last.
  /// @param resident_bytes as in Limits; `unlimited` lifts the cap
  /// @throws InvalidArgument if a step of some sequence is not finished
  /// @throws CapacityError if the cap is below what the constructor accepts, or does not hold the
  /// sinks, windows, pins and newest rows of the open sequences; nothing was changed then
  /// @throws TierError if rows could not be stored: the old cap is in force again, rows that gave
  /// way before stay frozen
  /// @complexity O(rows) for lanes that have to give way, O(lanes) otherwise
  void limit(std::size_t resident_bytes) { host::set_cap(context_, resident_bytes); }

  /// Where every byte is.
  [[nodiscard]] Ledger ledger() const noexcept { return host::count_bytes(context_); }

  /// @brief Rows of a sequence by fidelity, summed over lanes.
  [[nodiscard]] RowCounts rows(Sequence handle) const {
    static_cast<void>(record(handle));
    RowCounts counts;
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(context_.geometry().lanes); ++i) {
      using host::operator+;
      counts = counts + host::lane_counts(context_.memory.lane(handle.index, i));
    }
    return counts;
  }

  /// Lanes of a layer: kv_heads, or 1 with Grouping::layer.
  [[nodiscard]] int lanes_per_layer() const noexcept { return context_.geometry().lanes_per_layer; }

  /// @brief Exact rows of one lane: what view() and gather() will hold.
  [[nodiscard]] int exact_rows(Sequence handle, int layer, int lane) const {
    static_cast<void>(record(handle));
    host::check_lane(context_.geometry(), "exact_rows", layer, lane);
    return static_cast<int>(host::lane_counts(lane_ref(handle, layer, lane)).exact);
  }

  /// @brief Running mean of the entropy of a lane's attention, in bits. Where the scheduler
  /// `needs_entropy`: EntropyShares measures it while the model runs, EntropyCalibration keeps it.
  template <class Policy = Scheduler>
    requires(detail::needs_entropy<Policy>())
  [[nodiscard]] float attention_entropy(Sequence handle, int layer, int lane) const {
    static_cast<void>(record(handle));
    host::check_lane(context_.geometry(), "attention_entropy", layer, lane);
    return lane_ref(handle, layer, lane).lane->entropy.mean;
  }

  /// @brief Fidelity of each row of a lane, by position.
  /// @param out length(handle) elements
  void fidelities(Sequence handle, int layer, int lane, std::span<Fidelity> out) const {
    auto const& sequence = record(handle);
    host::check_lane(context_.geometry(), "fidelities", layer, lane);
    if (out.size() != static_cast<std::size_t>(sequence.length)) {
      throw InvalidArgument("fidelities(): out has " + std::to_string(out.size()) +
                            " elements, the sequence has " + std::to_string(sequence.length) +
                            " tokens");
    }
    auto const ref = lane_ref(handle, layer, lane);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = ref.fidelity(static_cast<std::uint32_t>(i) / C::page);
    }
  }

  [[nodiscard]] Shape const& shape() const noexcept { return context_.geometry().shape; }

  [[nodiscard]] Limits const& limits() const noexcept { return context_.geometry().limits; }

  [[nodiscard]] Scheduler const& scheduler() const noexcept { return context_.scheduler; }

  [[nodiscard]] Tier& tier() noexcept { return context_.tier; }

  [[nodiscard]] Tier const& tier() const noexcept { return context_.tier; }

  /// The regions behind the ledger, for tests that ask the system what is committed.
  [[nodiscard]] host::Memory<C> const& memory() const noexcept { return context_.memory; }

 private:
  template <class P>
  static P const& validated(P const& policy) {
    detail::validate_policy(policy);
    return policy;  // NOLINT(bugprone-return-const-ref-from-parameter): used within the constructor
  }

  [[nodiscard]] host::SequenceRecord<C> const& record(Sequence handle) const {
    if (handle.index >= context_.sequences.size() || !context_.sequences[handle.index].open ||
        context_.sequences[handle.index].generation != handle.generation) {
      throw UnknownSequence("sequence {" + std::to_string(handle.index) + ", " +
                            std::to_string(handle.generation) + "} is not open");
    }
    return context_.sequences[handle.index];
  }

  [[nodiscard]] host::SequenceRecord<C>& record(Sequence handle) {
    return const_cast<host::SequenceRecord<C>&>(std::as_const(*this).record(handle));
  }

  /// Gives a claimed sequence its share and fills it; if that fails, closes it.
  template <class Fill>
  Sequence begin(std::uint32_t index, Fill&& fill) {
    try {
      host::replan(context_);
      host::plan_transfers(context_, index);
      fill();
    } catch (...) {
      host::close_sequence(context_, index);
      throw;
    }
    return {index, context_.sequences[index].generation};
  }

  [[nodiscard]] host::LaneRef<C> lane_ref(Sequence handle, int layer, int lane) const noexcept {
    return context_.memory.lane(
        handle.index,
        static_cast<std::uint32_t>(layer * context_.geometry().lanes_per_layer + lane));
  }

  [[nodiscard]] host::LaneJob<C> lane_job(Sequence handle, int layer, int lane,
                                          Part part) noexcept {
    return host::lane_job(
        context_, handle.index,
        static_cast<std::uint32_t>(layer * context_.geometry().lanes_per_layer + lane), part.index);
  }

  template <class F>
  void for_lanes(Sequence handle, int layer, Part part, F&& f) {
    for (int lane = part.index; lane < context_.geometry().lanes_per_layer; lane += part.count) {
      f(lane_job(handle, layer, lane, part));
    }
  }

  [[nodiscard]] std::size_t weights_of(Sequence handle, int layer, int lane) const noexcept {
    return static_cast<std::size_t>(context_.geometry().lane_queries) *
           host::lane_counts(lane_ref(handle, layer, lane)).exact;
  }

  [[nodiscard]] host::NewRows new_rows(std::span<float const> k, std::span<float const> v,
                                       int tokens) const noexcept {
    auto const& shape = context_.geometry().shape;
    return {k.data(), v.data(), tokens, shape.kv_heads * shape.head_dim};
  }

  static float const* lane_queries(host::LaneJob<C> const& job, float const* q) noexcept {
    return q + static_cast<std::ptrdiff_t>(job.head) * job.geometry().lane_queries *
                   job.geometry().shape.head_dim;
  }

  host::Context<C> context_;
};

/// Without policies the cache is presets::KvFreeze: the fidelity ladder.
KvFreezeCache(Shape) -> KvFreezeCache<Layout<Half, 1, Grouping::kv_head, LadderRows>,
                                      InstantMassScorer<NestedKeyCodes<1, 5>>, LadderScheduler<>,
                                      HostTier, MissedMassTrigger>;
KvFreezeCache(Shape, Limits) -> KvFreezeCache<Layout<Half, 1, Grouping::kv_head, LadderRows>,
                                              InstantMassScorer<NestedKeyCodes<1, 5>>,
                                              LadderScheduler<>, HostTier, MissedMassTrigger>;

}  // namespace kvfreeze
