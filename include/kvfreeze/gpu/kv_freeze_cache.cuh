#pragma once

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/detail/cache_memory.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_prefill.cuh>
#include <kvfreeze/gpu/detail/launch_recall_step.cuh>
#include <kvfreeze/gpu/detail/launch_step.cuh>
#include <kvfreeze/gpu/detail/step_protocol.cuh>
#include <kvfreeze/gpu/entropy.cuh>
#include <kvfreeze/gpu/paged_view.cuh>
#include <kvfreeze/host/arguments.hpp>
#include <kvfreeze/layout.hpp>
#include <kvfreeze/report.hpp>
#include <kvfreeze/scheduler/ladder_scheduler.hpp>
#include <kvfreeze/scorer/instant_mass_scorer.hpp>
#include <kvfreeze/trigger/missed_mass_trigger.hpp>
#include <kvfreeze/types.hpp>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace kvfreeze::gpu {

/// @brief The KV cache of kvfreeze::KvFreezeCache in device memory. The same policies, and the same
/// decisions to the row.
///
/// A step of a batch of sequences: `begin_async()`; for each layer `attend_async()`; then
/// `advance_async()`. A chunk of a prompt: `begin_prefill_async()`; for each layer an attention of
/// your own over `gather_async()`, and `prefill_async()`; then `advance_async()`. Everything is
/// enqueued on one stream and nothing is waited for; what a step did is read from `report()` once
/// the stream has come past it. `attend_async()` and `advance_async()` may be captured in a graph,
/// which serves later steps of the same number of sequences.
///
/// The tier is pinned memory of the host: rows are written through when they are appended, so that
/// what freezes later moves nothing. With InPlaceTier rows stay where they are and leave a list;
/// with DiscardTier they are gone. Neither holds anything outside of the device.
///
/// With SpillingTier<Lower> pinned memory is bounded, and what nobody has needed for some time goes
/// to a lower tier. A row that a step wants from there is not waited for: it is first in line at
/// the next steps, attended by its code or its estimate meanwhile, and counts as deferred. Then
/// `begin_async()`, which tells the tier what is appended, comes before each step, replays of
/// captured ones included, and is not captured itself; it throws what the lower tier throws, and no
/// step has begun. `gather_async()`, `thaw_async()` and `truncate_async()` wait for the lower tier.
///
/// Where a trigger rewinds (Recovery::rewalk) the sequence goes back on the device at once, before
/// its next step; the caller learns of it from `report()`. Steps that were enqueued since count for
/// nothing: `truncate_async()` to `StepReport::rewind_to` forgets their rows, and the engine goes
/// on from there. Reports say so until it has.
///
/// Under a byte cap (`Limits::resident_bytes`: everything in device memory, work space included)
/// the pool of pages is dealt to `max_sequences` in equal parts, so that what a sequence keeps does
/// not depend on the others; within a sequence the scheduler says how: by one water level for all
/// lanes, in equal parts, or by its shares. A transfer budget (`Limits::transfer_bytes`, of a token
/// of a sequence) covers what is written through and what comes back. Decisions under either are
/// the device's own: its pages are not the host's blocks. Neither is for InPlaceTier.
///
/// Layouts with compact rows take UniformScheduler or a ladder (LadderScheduler,
/// RankLadderScheduler, HeadBitsScheduler). Those without take any other scheduler, and any scorer.
/// Where rows may be compact every row has a slot or a code of its own, and those of a granule
/// share a verdict. Device memory is reserved up front.
///
/// Threads: one call at a time.
/// @tparam L, Scorer, Scheduler, Trigger as on the host; functions that a step calls KVFREEZE_HD
/// @tparam Tier PinnedTier, SpillingTier, InPlaceTier or DiscardTier
template <LayoutPolicy L = Layout<Half, 1, Grouping::kv_head, LadderRows>,
          ScorerPolicy Scorer = InstantMassScorer<NestedKeyCodes<1, 5>>,
          SchedulerPolicy Scheduler = LadderScheduler<>, TriggerPolicy Trigger = MissedMassTrigger,
          CacheTier Tier = PinnedTier>
class KvFreezeCache {
  using C = Composition<L, Scorer, Scheduler, Trigger, Tier>;
  static_assert(detail::HasEncoder<typename C::Digest>,
                "kvfreeze: the CUDA cache has no digests of this kind yet");

 public:
  using layout_type = L;
  using element_type = typename L::element_type;
  using scheduler_type = Scheduler;
  using trigger_type = Trigger;
  using tier_type = Tier;

  /// Settings of the tier: PinnedTierOptions, SpillingTierSettings, or none.
  using tier_settings = detail::TierSettings<C>;

  /// @brief Reserves device memory for everything, and pins nothing yet, but for a SpillingTier.
  /// @throws InvalidArgument for a shape, limit or policy parameter out of range
  /// @throws CapacityError if a byte cap, or the pinned memory of a SpillingTier, is too small
  /// @throws OutOfMemory that says how large the pool of pages is, with the bytes that the device
  ///   did not have; CudaError without a device; what a lower tier throws
  explicit KvFreezeCache(Shape const& shape, Limits const& limits = {},
                         Scheduler const& scheduler = {}, Trigger const& trigger = {},
                         Scorer const& scorer = {}, tier_settings tier = {})
      : shape_(shape),
        limits_(checked(limits)),
        scheduler_(validated(scheduler)),
        trigger_(validated(trigger)),
        memory_(detail::make_cache_storage<C>(
            bounded(make_geometry<C>(shape, limits, validated(scorer), trigger)), scorer,
            limits.resident_bytes, std::move(tier))),
        steps_(shape, limits) {
    if constexpr (C::has_levels) {
      Rungs const rungs = scheduler.rungs(LaneFacts{});
      if ((rungs.attended >= 0) != C::by_rank) {
        throw InvalidArgument("KvFreezeCache: the scheduler's rungs() gives Rungs::attended = " +
                              std::to_string(rungs.attended) + ", its by_rank is " +
                              (C::by_rank ? "true" : "false"));
      }
      host::check_rungs(rungs, C::levels);
    }
  }

  /// @brief Begins an empty sequence. Pins its part of a PinnedTier: not for a decode path.
  /// @param stream the one that its steps will run on
  /// @throws CapacityError if `max_sequences` are open, or the tier's capacity is exceeded;
  ///   OutOfMemory, CudaError
  [[nodiscard]] Sequence open(::cuda::stream_ref stream) {
    std::uint32_t const place = steps_.free_place();
    memory_.open(place, trigger_, stream);
    return steps_.open(place);
  }

  /// @brief Forgets a sequence and gives its memory back. Waits for the stream.
  /// @throws UnknownSequence
  /// @throws CudaError: the sequence is as it was if nothing could be enqueued, else it is closed
  void close(Sequence handle, ::cuda::stream_ref stream) {
    Record& sequence = steps_.record(handle);
    steps_.leave(handle);
    try {
      memory_.close(handle.index, stream);
    } catch (...) {
      sequence.open = memory_.tier().is_open(handle.index);
      throw;
    }
    sequence.open = false;
  }

  /// @brief Says which sequences take the next step. Every one gets one token.
  /// @param batch each at most once, at most max_sequences
  /// @throws InvalidArgument for a batch that is empty or names one twice; UnknownSequence
  /// @throws CapacityError for a sequence that has `max_tokens`; nothing was enqueued
  /// @throws InvalidArgument if a step before had K, V or Q that were not finite, or a launch of a
  ///   sequence's last step or truncation failed: it can only be closed; its rows are in the tier
  /// @throws CudaError, with SpillingTier as its begin_step(); no batch is begun
  void begin_async(std::span<Sequence const> batch, ::cuda::stream_ref stream) {
    steps_.check_batch(batch);
    begin(batch, 1, false, stream);
  }

  /// @brief Says that the next step is a chunk of one sequence's prompt.
  /// @param tokens of the chunk, at least 1; under a byte cap at most 512 on a ladder, elsewhere 64
  /// @throws InvalidArgument for `tokens`; else as begin_async(). Nothing was enqueued then
  void begin_prefill_async(Sequence handle, int tokens, ::cuda::stream_ref stream) {
    steps_.check_chunk(handle, tokens, memory_.geometry().room != 0 ? detail::capped_chunk<C> : 0);
    begin({&handle, 1}, tokens, true, stream);
  }

  /// @brief A chunk's K and V of one layer come in; its last queries (four on the ladder, else as
  /// many as the scorer asks for) say which rows stay exact, the others sink when the step ends.
  ///
  /// Attention of the chunk is your kernel's, over the chunk and what gather_async() gives. Under a
  /// byte cap rows of it that have no room go to the tier alone on a ladder; elsewhere the lane's
  /// other rows make way for them.
  /// @param q [tokens][query_heads][head_dim]
  /// @param k, v [tokens][kv_heads][head_dim], finite: what is not is reported by the next step
  /// @tparam Input element type of q, k and v
  /// @throws InvalidArgument for a layer or sizes that do not fit, or without
  ///   begin_prefill_async(); CudaError
  /// @complexity O(tokens) copies and digests; a ranking of the lanes' rows for each of those
  /// queries, on the ladder one more
  /// @stream_semantics never waits, never allocates; what is handed in must live until it has run
  template <Element Input>
  void prefill_async(int layer, Span<Input const> q, Span<Input const> k, Span<Input const> v,
                     ::cuda::stream_ref stream) {
    steps_.check_rows("prefill_async", layer, true, q.size(), k.size(), v.size());
    or_lose_batch([&] {
      detail::launch_prefill<C>(
          memory_, scheduler_, layer,
          detail::ChunkRows<Input>{{q.data(), k.data(), v.data()}, steps_.tokens()}, stream);
    });
    steps_.layer_done(layer);
  }

  /// @brief A dense copy of a layer's rows in position order, frozen ones from the tier. Not where
  /// rows may be gone.
  /// @param k, v [rows][kv_heads][head_dim]; rows are `length()` and those of a step that has begun
  /// @throws UnknownSequence; InvalidArgument for a layer, or spans that do not hold `length()`
  ///   rows; CudaError; with SpillingTier as its fetch(), of which `k` and `v` may have parts then
  /// @stream_semantics never waits, but for SpillingTier, which needs all rows of a lane in pinned
  ///   memory at a time; never allocates
  void gather_async(Sequence handle, int layer, Span<element_type> k, Span<element_type> v,
                    ::cuda::stream_ref stream)
    requires(!C::discards)
  {
    Record const& sequence = steps_.record(handle);
    steps_.check_layer("gather_async", layer);
    std::size_t const row =
        static_cast<std::size_t>(shape_.kv_heads) * static_cast<std::size_t>(shape_.head_dim);
    std::size_t const least = static_cast<std::size_t>(sequence.length) * row;
    if (k.size() < least || v.size() != k.size() || k.size() % row != 0) {
      throw InvalidArgument("gather_async(): k has " + std::to_string(k.size()) + " and v " +
                            std::to_string(v.size()) + " elements, expected at least " +
                            std::to_string(sequence.length) + " rows of " + std::to_string(row));
    }
    memory_.gather(handle.index, sequence.length, steps_.is_begun(), layer, k.data(), v.data(),
                   stream);
  }

  /// @brief Append, recall, attention and evidence of one layer, for the batch.
  /// @param q [sequences][query_heads][head_dim]
  /// @param k, v [sequences][kv_heads][head_dim], finite: what is not is reported by the next
  ///   begin_async()
  /// @param out [sequences][query_heads][head_dim]
  /// @tparam Input element type of q, k and v
  /// @throws InvalidArgument for a layer or sizes that do not fit
  /// @throws CudaError: the batch's sequences can only be closed, others go on
  /// @stream_semantics never waits, never allocates; what is handed in must live until it has run
  template <Element Input>
  void attend_async(int layer, Span<Input const> q, Span<Input const> k, Span<Input const> v,
                    Span<float> out, ::cuda::stream_ref stream) {
    steps_.check_rows("attend_async", layer, false, q.size(), k.size(), v.size());
    if (out.size() != q.size()) {
      throw InvalidArgument("attend_async(): out has " + std::to_string(out.size()) +
                            " elements, q has " + std::to_string(q.size()));
    }
    or_lose_batch([&] {
      detail::launch_layer_step<C>(memory_, scheduler_, layer, steps_.sequences(),
                                   detail::NewRows<Input>{q.data(), k.data(), v.data()}, out,
                                   stream);
    });
    steps_.layer_done(layer);
  }

  /// @brief The first half of attend_async(), for attention of your own: rows come in, what their
  /// queries need rises. Then view_async(), and your kernel over the exact rows; where rows may be
  /// compact also partial_async() for those, and merge_async(). What attend_async() adds there for
  /// frozen rows, their estimated weight times the lane's mean value, is left out. Not where rows
  /// stay in place: they lie on no pages of their own.
  /// @param q, k, v as in attend_async()
  /// @throws as attend_async()
  /// @stream_semantics as attend_async()
  template <Element Input>
  void recall_async(int layer, Span<Input const> q, Span<Input const> k, Span<Input const> v,
                    ::cuda::stream_ref stream)
    requires(!C::in_place)
  {
    steps_.check_rows("recall_async", layer, false, q.size(), k.size(), v.size());
    or_lose_batch([&] {
      detail::launch_recall_ahead<C>(memory_, scheduler_, layer, steps_.sequences(),
                                     detail::NewRows<Input>{q.data(), k.data(), v.data()}, stream);
    });
    steps_.layer_done(layer, true);
  }

  /// Where exact rows lie. @see PagedView
  [[nodiscard]] PagedView<element_type> view() const noexcept { return memory_.paged(); }

  /// @brief Pages of the exact rows that the last recall_async() left, lanes sequence by sequence.
  /// @throws InvalidArgument without a recall of the step, or for lists that are too small: pages
  ///   has room for every page that the batch's lanes may have, (max_tokens + 15) / 16 each;
  ///   CudaError
  /// @stream_semantics never waits, never allocates, may be captured
  void view_async(PageLists const& lists, ::cuda::stream_ref stream)
    requires(!C::in_place)
  {
    int const layer = steps_.recalled("view_async");
    Geometry const& g = memory_.geometry();
    auto const lanes = static_cast<std::size_t>(steps_.sequences() * g.lanes_per_layer);
    std::size_t const pages = lanes * g.segment[rows_segment].most_pages;
    if (lists.first.size() < lanes + 1 || lists.last_page_rows.size() < lanes ||
        lists.pages.size() < pages) {
      throw InvalidArgument("view_async(): first, pages and last_page_rows have " +
                            std::to_string(lists.first.size()) + ", " +
                            std::to_string(lists.pages.size()) + " and " +
                            std::to_string(lists.last_page_rows.size()) +
                            " elements, expected at least " + std::to_string(lanes + 1) + ", " +
                            std::to_string(pages) + " and " + std::to_string(lanes));
    }
    detail::launch_page_lists<C>(memory_, layer, steps_.sequences(), lists, stream);
  }

  /// @brief Attention of the last recall_async()'s queries over the compact rows alone.
  /// @param out [sequences][query_heads][head_dim]
  /// @param lse [sequences][query_heads], natural; minus infinity where no row is compact
  /// @throws InvalidArgument without a recall of the step, or for sizes that do not fit; CudaError
  /// @stream_semantics never waits, never allocates, may be captured
  void partial_async(Span<float> out, Span<float> lse, ::cuda::stream_ref stream)
    requires C::has_levels
  {
    static_cast<void>(steps_.recalled("partial_async"));
    detail::launch_attention<C>(memory_, steps_.sequences(), true, out, lse, stream);
  }

  /// @brief Ends the batch's step: what was not needed sinks, the trigger is asked.
  /// @param logits [sequences][vocabulary] of the step, or none
  /// @throws InvalidArgument if no step has begun, a layer has no rows of it, or logits do not
  ///   divide among the sequences
  /// @throws OutOfMemory, CudaError if room for the logits' sums is refused; nothing was enqueued
  /// @throws CudaError as attend_async()
  /// @stream_semantics as attend_async(). Only the first step with so many logits makes room for
  ///   their sums: it may not be captured
  template <Element Input = float>
  void advance_async(Span<Input const> logits, ::cuda::stream_ref stream) {
    steps_.check_end(logits.size());
    if (!logits.empty()) {  // before anything is enqueued, so that a refusal costs no step
      auto const sequences = static_cast<std::size_t>(steps_.sequences());
      memory_.step().reserve_entropy(sequences, logits.size() / sequences);
    }
    or_lose_batch([&] {
      detail::launch_advance<C>(memory_, scheduler_, steps_.sequences(), steps_.tokens(), logits,
                                stream);
    });
    steps_.end();
  }

  /// @brief The same without logits.
  void advance_async(::cuda::stream_ref stream) { advance_async(Span<float const>{}, stream); }

  /// @brief Counts a replayed graph that held a step of the batch: the host's own lengths.
  void count_replay() noexcept { steps_.count(); }

  /// @brief Forgets the tokens from `length` on: of a draft that was not accepted, or after a
  /// rewind, which has then been taken note of. Rows that are protected now come back, unless they
  /// are gone. What scorers noted of the other rows since stays, counts of detections go back where
  /// `length` is a checkpoint, all as on the host.
  /// @throws UnknownSequence, InvalidArgument for a length outside of [0, length()]; with
  ///   DiscardTier also for one that cuts a granule of several rows which may be gone: neither a
  ///   sink's nor the one that is being filled
  /// @throws CudaError: the sequence can only be closed. With SpillingTier as its fetch(): nothing
  ///   was cut
  /// @stream_semantics never waits, but for SpillingTier; never allocates
  void truncate_async(Sequence handle, int length, ::cuda::stream_ref stream) {
    Record& sequence = steps_.live("truncate_async", handle);
    steps_.check_cut(sequence, length, C::discards ? C::page : 1);
    memory_.fetch_owed(handle.index, length, steps_.is_begun(), stream);
    try {
      memory_.truncate(handle.index, length, stream);
    } catch (CudaError const&) {  // lanes may be cut, and lack rows that they owe
      sequence.failed = true;
      throw;
    }
    sequence.length = length;
    sequence.told = sequence.steps;
  }

  /// @brief Keeps ranges of tokens exact from now on; replaces earlier pins. Ranges may lie in the
  /// future. Frozen rows in them come back with the next step.
  /// @throws UnknownSequence, InvalidArgument if the ranges are not sorted, overlap, are empty or
  ///   out of range; CudaError
  /// @stream_semantics never waits, never allocates
  void pin_async(Sequence handle, std::span<TokenRange const> ranges, ::cuda::stream_ref stream) {
    static_cast<void>(steps_.live("pin_async", handle));
    host::check_pins(limits_, ranges);
    memory_.pin(ranges, handle.index, stream);
    memory_.pin_rows(handle.index, stream);
  }

  /// @brief Gives the lanes of a sequence their shares, as on the host: in force from what is
  /// enqueued next.
  /// @param shares [layers][lanes_per_layer], relative to the mean lane, in [0, 1024]; of the host
  /// @throws UnknownSequence, InvalidArgument for their number, or a share out of range; CudaError
  /// @stream_semantics never waits, never allocates; `shares` may go at once
  void set_shares_async(Sequence handle, std::span<float const> shares, ::cuda::stream_ref stream)
    requires C::needs_sequence_shares
  {
    static_cast<void>(steps_.live("set_shares_async", handle));
    host::check_shares(shares, static_cast<std::size_t>(memory_.geometry().lanes));
    memory_.set_shares(shares, handle.index, stream);
  }

  /// @brief Full Reset, now: every row is exact, and rows lie in the order of their positions. Of
  /// rows that are gone none comes back.
  /// @throws UnknownSequence, CudaError; CapacityError if the byte cap does not hold them. With
  ///   SpillingTier as its fetch(): some lanes are whole, the others as they were
  /// @stream_semantics never waits, but for SpillingTier, as gather_async(); never allocates
  /// @complexity O(rows): all of them come from the tier
  void thaw_async(Sequence handle, ::cuda::stream_ref stream) {
    std::size_t const needed = memory_.pages_when_whole(steps_.live("thaw_async", handle).length);
    if (memory_.geometry().room != 0 && needed > memory_.geometry().room) {
      throw CapacityError("thaw_async(): all rows need " + std::to_string(needed) +
                              " pages, Limits::resident_bytes leaves a sequence " +
                              std::to_string(memory_.geometry().room),
                          needed, memory_.geometry().room);
    }
    memory_.thaw(handle.index, steps_.record(handle).length, steps_.is_begun(), stream);
  }

  /// Tokens of the sequence, enqueued steps included; after a rewind those of steps that count for
  /// nothing too, until truncate_async().
  /// @throws UnknownSequence
  [[nodiscard]] int length(Sequence handle) const { return steps_.record(handle).length; }

  /// @brief What the sequence's last finished step did. `step` is 0 before the first one.
  ///
  /// Never waits: a step that still runs is not reported yet. Bytes of the ledger are the
  /// sequence's own, but for metadata and scratch, which are the whole cache's.
  /// @throws UnknownSequence
  [[nodiscard]] StepReport report(Sequence handle) const {
    Record const& sequence = steps_.record(handle);
    StepReport report = memory_.report(handle.index);
    if (report.step <= sequence.told) {
      report.rewind_to.reset();
    }
    return report;
  }

  /// @brief Fidelity of each row of a lane, by position. Waits for the stream. After a rewind,
  /// until truncate_async(), the last of them are no rows, and nothing is said of them.
  /// @param out length(handle) elements
  /// @throws UnknownSequence, InvalidArgument, CudaError
  void fidelities(Sequence handle, int layer, int lane, std::span<Fidelity> out,
                  ::cuda::stream_ref stream) const {
    Record const& sequence = steps_.record(handle);
    if (layer < 0 || layer >= shape_.layers || lane < 0 ||
        lane >= memory_.geometry().lanes_per_layer ||
        out.size() != static_cast<std::size_t>(sequence.length)) {
      throw InvalidArgument("fidelities(): layer " + std::to_string(layer) + ", lane " +
                            std::to_string(lane) + ", out has " + std::to_string(out.size()) +
                            " elements, the sequence has " + std::to_string(sequence.length) +
                            " tokens");
    }
    memory_.fidelities(handle.index, layer * memory_.geometry().lanes_per_layer + lane, out,
                       stream);
  }

  /// Lanes of a layer: kv_heads, or 1 with Grouping::layer.
  [[nodiscard]] int lanes_per_layer() const noexcept { return memory_.geometry().lanes_per_layer; }

  [[nodiscard]] Shape const& shape() const noexcept { return shape_; }

  [[nodiscard]] Limits const& limits() const noexcept { return limits_; }

  /// Device memory reserved, in bytes.
  [[nodiscard]] std::size_t device_bytes() const noexcept { return memory_.device_bytes(); }

  [[nodiscard]] Tier const& tier() const noexcept
    requires C::stores
  {
    return memory_.tier();
  }

  [[nodiscard]] Tier& tier() noexcept
    requires C::spills
  {
    return memory_.tier();
  }

 private:
  using Record = detail::StepProtocol::Record;

  /// Calls `enqueue`; if a launch fails, the batch is half way through a step that has no end.
  template <class F>
  void or_lose_batch(F const& enqueue) {
    try {
      enqueue();
    } catch (CudaError const&) {
      steps_.fail();
      throw;
    }
  }

  template <class P>
  static P const& validated(P const& policy) {
    kvfreeze::detail::validate_policy(policy);
    return policy;  // NOLINT(bugprone-return-const-ref-from-parameter): used in the constructor
  }

  static Limits const& checked(Limits const& limits) {
    if (C::in_place && limits.resident_bytes != unlimited) {
      throw InvalidArgument("Limits::resident_bytes is " + std::to_string(limits.resident_bytes) +
                            ", must be unlimited where all rows stay in place");
    }
    if (C::in_place && limits.transfer_bytes != unlimited) {
      throw InvalidArgument("Limits::transfer_bytes is " + std::to_string(limits.transfer_bytes) +
                            ", must be unlimited where all rows stay in place");
    }
    return limits;
  }

  /// The geometry with what the limits say of the scheduler's water levels and of transfers.
  [[nodiscard]] Geometry bounded(Geometry g) const {
    auto const levels = host::water_epsilons(kvfreeze::detail::capped_level(scheduler_));
    std::copy(levels.begin(), levels.end(), g.levels);
    g.by_demand = C::recalls && limits_.resident_bytes != unlimited &&
                  kvfreeze::detail::base_level(scheduler_) > 0.0F;
    if (limits_.transfer_bytes == unlimited || C::discards) {  // then nothing moves
      return g;
    }
    auto const lanes = static_cast<std::size_t>(g.lanes);
    std::size_t const least = (1 + C::span) * lanes * g.granule_bytes();
    if (limits_.transfer_bytes < least) {
      throw InvalidArgument("Limits::transfer_bytes is " + std::to_string(limits_.transfer_bytes) +
                            ", must be at least " + std::to_string(least) +
                            ": for each lane and token the row that is written through, and " +
                            (C::span == 1 ? "one that comes" : "the rows of a granule that come") +
                            " back");
    }
    g.limits_transfers = true;
    g.transfers = static_cast<std::uint32_t>(
        std::min(limits_.transfer_bytes / g.granule_bytes() - lanes, std::size_t{0x7FFFFFFF}));
    return g;
  }

  void begin(std::span<Sequence const> batch, int tokens, bool chunk, ::cuda::stream_ref stream) {
    check_status();
    steps_.forget_batch();
    memory_.begin_step(
        batch, [&](Sequence handle) { return steps_.record(handle).length; }, tokens, stream);
    memory_.set_batch(batch, stream);
    steps_.begin(batch, tokens, chunk);
  }

  void check_status() {
    std::uint32_t const status = memory_.take_status();
    if ((status & detail::Status::not_finite) != 0) {
      throw InvalidArgument("attend_async(): K, V or Q of a step had values that are not finite");
    }
    if ((status & detail::Status::too_long) != 0) {  // a graph was replayed without begin_async()
      throw CapacityError(
          "attend_async(): Limits::max_tokens is " + std::to_string(limits_.max_tokens),
          static_cast<std::size_t>(limits_.max_tokens) + 1,
          static_cast<std::size_t>(limits_.max_tokens));
    }
    if ((status & detail::Status::not_begun) != 0) {
      throw InvalidArgument(
          "begin_async(): with SpillingTier it comes before each replay of a captured step too");
    }
    if ((status & detail::Status::no_pages) != 0) {
      throw CapacityError("attend_async(): a step found none of the pool's " +
                              std::to_string(memory_.pages()) + " pages free for its rows",
                          memory_.pages() + 1, memory_.pages());
    }
  }

  Shape shape_;
  Limits limits_;
  Scheduler scheduler_;
  Trigger trigger_;
  detail::CacheStorage<C> memory_;
  detail::StepProtocol steps_;
};

}  // namespace kvfreeze::gpu
