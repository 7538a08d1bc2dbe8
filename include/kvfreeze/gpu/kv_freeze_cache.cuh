#pragma once

#include <kvfreeze/detail/validate.hpp>
#include <kvfreeze/digest/nested_key_codes.hpp>
#include <kvfreeze/gpu/detail/cache_memory.cuh>
#include <kvfreeze/gpu/detail/end_step_kernels.cuh>
#include <kvfreeze/gpu/detail/launch_step.cuh>
#include <kvfreeze/gpu/entropy.cuh>
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
#include <vector>

namespace kvfreeze::gpu {

/// @brief The KV cache of kvfreeze::KvFreezeCache in device memory, its tier in pinned memory of
/// the host. The same policies, and the same decisions to the row.
///
/// A step of a batch of sequences: `begin_async()`; for each layer `attend_async()`; then
/// `advance_async()`. Everything is enqueued on one stream and nothing is waited for; what a step
/// did is read from `report()` once the stream has come past it. All calls but `begin_async()`,
/// `open()` and `close()` may be captured in a graph, which serves later steps of the same number
/// of sequences.
///
/// Rows are written through to the tier when they are appended: what freezes later moves nothing.
///
/// So far there are compact levels only: a LadderScheduler that does not sleep, single rows, a lane
/// for each KV head, no byte cap and no transfer budget (`Limits::resident_bytes`,
/// `Limits::transfer_bytes`), one token a sequence and step. Device memory is reserved up front.
///
/// Threads: one call at a time.
/// @tparam L, Scorer, Scheduler, Trigger as on the host; functions that a step calls KVFREEZE_HD
template <LayoutPolicy L = Layout<Half, 1, Grouping::kv_head, LadderRows>,
          ScorerPolicy Scorer = InstantMassScorer<NestedKeyCodes<1, 5>>,
          SchedulerPolicy Scheduler = LadderScheduler<>, TriggerPolicy Trigger = MissedMassTrigger>
class KvFreezeCache {
  using C = Composition<L, Scorer, Scheduler, Trigger>;
  static_assert(C::has_levels && !C::uniform && !C::sleeps,
                "kvfreeze::gpu: so far a layout with compact rows and a LadderScheduler<false>");
  static_assert(C::page == 1 && L::grouping == Grouping::kv_head,
                "kvfreeze::gpu: so far granules of one row and a lane for each KV head");
  static_assert(!C::rewalks && !C::needs_cosine,
                "kvfreeze::gpu: so far no trigger that rewinds or asks for the queries' cosine");

 public:
  using layout_type = L;
  using element_type = typename L::element_type;
  using scheduler_type = Scheduler;
  using trigger_type = Trigger;

  /// @brief Reserves device memory for everything, and pins nothing yet.
  /// @throws InvalidArgument for a shape, limit or policy parameter out of range
  /// @throws OutOfMemory that says how large the pool of pages is, with the bytes that the device
  ///   did not have; CudaError without a device
  explicit KvFreezeCache(Shape const& shape, Limits const& limits = {},
                         Scheduler const& scheduler = {}, Trigger const& trigger = {})
      : shape_(shape),
        limits_(checked(limits)),
        scheduler_(validated(scheduler)),
        trigger_(validated(trigger)),
        geometry_(make_geometry<C>(shape, limits)),
        memory_(detail::make_cache_storage<C>(geometry_)),
        open_(static_cast<std::size_t>(limits.max_sequences)),
        taken_(open_.size()) {
    host::check_rungs(scheduler.rungs(LaneFacts{}), C::levels);
  }

  /// @brief Begins an empty sequence. Pins its part of the tier: not for a decode path.
  /// @param stream the one that its steps will run on
  /// @throws CapacityError if `max_sequences` are open, OutOfMemory, CudaError
  [[nodiscard]] Sequence open(::cuda::stream_ref stream) {
    auto const found =
        std::find_if(open_.begin(), open_.end(), [](Record const& r) { return !r.open; });
    if (found == open_.end()) {
      throw CapacityError(
          "open(): Limits::max_sequences = " + std::to_string(open_.size()) + " are open",
          open_.size() + 1, open_.size());
    }
    auto const index = static_cast<std::uint32_t>(found - open_.begin());
    memory_.open(index, trigger_, stream);
    found->open = true;
    found->failed = false;
    found->generation += 1;
    found->length = 0;
    return {index, found->generation};
  }

  /// @brief Forgets a sequence and gives its memory back. Waits for the stream.
  /// @throws UnknownSequence
  /// @throws CudaError: the sequence is as it was if nothing could be enqueued, else it is closed
  void close(Sequence handle, ::cuda::stream_ref stream) {
    Record& sequence = record(handle);
    if (std::find(batch_.begin(), batch_.end(), handle) != batch_.end()) {
      batch_.clear();
    }
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
  ///   sequence's last step failed: it can only be closed; its rows are in the tier
  /// @throws CudaError; no batch is begun
  void begin_async(std::span<Sequence const> batch, ::cuda::stream_ref stream) {
    if (batch.empty() || batch.size() > open_.size()) {
      throw InvalidArgument("begin_async(): a batch of " + std::to_string(batch.size()) +
                            " sequences, expected [1, " + std::to_string(open_.size()) + "]");
    }
    std::fill(taken_.begin(), taken_.end(), false);
    for (Sequence const handle : batch) {
      Record const& sequence = record(handle);
      if (taken_[handle.index]) {
        throw InvalidArgument("begin_async(): sequence {" + std::to_string(handle.index) + ", " +
                              std::to_string(handle.generation) + "} is in the batch twice");
      }
      taken_[handle.index] = true;
      if (sequence.failed) {
        throw InvalidArgument("begin_async(): a launch of the last step of sequence {" +
                              std::to_string(handle.index) + ", " +
                              std::to_string(handle.generation) +
                              "} failed: all that can be done is close() it");
      }
      if (sequence.length >= limits_.max_tokens) {
        throw CapacityError(
            "begin_async(): Limits::max_tokens is " + std::to_string(limits_.max_tokens),
            static_cast<std::size_t>(sequence.length) + 1,
            static_cast<std::size_t>(limits_.max_tokens));
      }
    }
    check_status();
    batch_.clear();
    memory_.set_batch(batch, stream);
    batch_.assign(batch.begin(), batch.end());
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
    auto const fail = [&](char const* name, std::size_t size, int heads) {
      throw InvalidArgument(std::string("attend_async(): ") + name + " has " +
                            std::to_string(size) + " elements, expected " +
                            std::to_string(batch_.size()) + " * " + std::to_string(heads) + " * " +
                            std::to_string(shape_.head_dim));
    };
    auto const expected = [&](int heads) {
      return batch_.size() * static_cast<std::size_t>(heads) *
             static_cast<std::size_t>(shape_.head_dim);
    };
    if (batch_.empty()) {
      throw InvalidArgument("attend_async(): no batch: begin_async() comes first");
    }
    if (layer < 0 || layer >= shape_.layers) {
      throw InvalidArgument("attend_async(): layer is " + std::to_string(layer) +
                            ", must be in [0, " + std::to_string(shape_.layers) + ")");
    }
    if (q.size() != expected(shape_.query_heads)) {
      fail("q", q.size(), shape_.query_heads);
    }
    if (out.size() != expected(shape_.query_heads)) {
      fail("out", out.size(), shape_.query_heads);
    }
    if (k.size() != expected(shape_.kv_heads)) {
      fail("k", k.size(), shape_.kv_heads);
    }
    if (v.size() != expected(shape_.kv_heads)) {
      fail("v", v.size(), shape_.kv_heads);
    }
    or_lose_batch([&] {
      detail::launch_layer_step<C>(memory_, scheduler_, layer, static_cast<int>(batch_.size()),
                                   detail::NewRows<Input>{q.data(), k.data(), v.data()}, out,
                                   stream);
    });
  }

  /// @brief Ends the batch's step: what was not needed sinks, the trigger is asked.
  /// @param logits [sequences][vocabulary] of the step, or none
  /// @throws InvalidArgument if logits do not divide among the sequences
  /// @throws OutOfMemory, CudaError if room for the logits' sums is refused; nothing was enqueued
  /// @throws CudaError as attend_async()
  /// @stream_semantics as attend_async(). Only the first step with so many logits makes room for
  ///   their sums: it may not be captured
  template <Element Input = float>
  void advance_async(Span<Input const> logits, ::cuda::stream_ref stream) {
    if (batch_.empty() || logits.size() % batch_.size() != 0) {
      throw InvalidArgument("advance_async(): " + std::to_string(logits.size()) +
                            " logits for a batch of " + std::to_string(batch_.size()) +
                            " sequences");
    }
    if (!logits.empty()) {  // before anything is enqueued, so that a refusal costs no step
      memory_.step().reserve_entropy(batch_.size(), logits.size() / batch_.size());
    }
    or_lose_batch([&] {
      detail::launch_advance<C>(memory_, scheduler_, static_cast<int>(batch_.size()), logits,
                                stream);
    });
    for (Sequence const handle : batch_) {
      open_[handle.index].length += 1;
    }
  }

  /// @brief The same without logits.
  void advance_async(::cuda::stream_ref stream) { advance_async(Span<float const>{}, stream); }

  /// @brief Counts a replayed graph that held a step of the batch: the host's own lengths.
  void count_replay() noexcept {
    for (Sequence const handle : batch_) {
      open_[handle.index].length += 1;
    }
  }

  /// Tokens of the sequence, enqueued steps included.
  /// @throws UnknownSequence
  [[nodiscard]] int length(Sequence handle) const { return record(handle).length; }

  /// @brief What the sequence's last finished step did. `step` is 0 before the first one.
  ///
  /// Never waits: a step that still runs is not reported yet. Bytes of the ledger are the
  /// sequence's own, but for metadata and scratch, which are the whole cache's.
  /// @throws UnknownSequence
  [[nodiscard]] StepReport report(Sequence handle) const {
    static_cast<void>(record(handle));
    return memory_.report(handle.index);
  }

  /// @brief Fidelity of each row of a lane, by position. Waits for the stream.
  /// @param out length(handle) elements
  /// @throws UnknownSequence, InvalidArgument, CudaError
  void fidelities(Sequence handle, int layer, int lane, std::span<Fidelity> out,
                  ::cuda::stream_ref stream) const {
    Record const& sequence = record(handle);
    if (layer < 0 || layer >= shape_.layers || lane < 0 || lane >= geometry_.lanes_per_layer ||
        out.size() != static_cast<std::size_t>(sequence.length)) {
      throw InvalidArgument("fidelities(): layer " + std::to_string(layer) + ", lane " +
                            std::to_string(lane) + ", out has " + std::to_string(out.size()) +
                            " elements, the sequence has " + std::to_string(sequence.length) +
                            " tokens");
    }
    memory_.fidelities(handle.index, layer * geometry_.lanes_per_layer + lane, out, stream);
  }

  [[nodiscard]] Shape const& shape() const noexcept { return shape_; }

  [[nodiscard]] Limits const& limits() const noexcept { return limits_; }

  /// Device memory reserved, in bytes.
  [[nodiscard]] std::size_t device_bytes() const noexcept { return memory_.device_bytes(); }

  [[nodiscard]] PinnedTier const& tier() const noexcept { return memory_.tier(); }

 private:
  struct Record {
    bool open = false;
    bool failed = false;  ///< a step was enqueued in part
    std::uint32_t generation = 0;
    int length = 0;
  };

  /// Calls `enqueue`; if a launch fails, the batch is half way through a step that has no end.
  template <class F>
  void or_lose_batch(F const& enqueue) {
    try {
      enqueue();
    } catch (CudaError const&) {
      for (Sequence const handle : batch_) {
        open_[handle.index].failed = true;
      }
      batch_.clear();
      throw;
    }
  }

  template <class P>
  static P const& validated(P const& policy) {
    kvfreeze::detail::validate_policy(policy);
    return policy;  // NOLINT(bugprone-return-const-ref-from-parameter): used in the constructor
  }

  static Limits const& checked(Limits const& limits) {
    if (limits.resident_bytes != unlimited || limits.transfer_bytes != unlimited) {
      throw InvalidArgument(
          "Limits::resident_bytes and Limits::transfer_bytes must be unlimited on the device: " +
          std::to_string(limits.resident_bytes) + ", " + std::to_string(limits.transfer_bytes));
    }
    return limits;
  }

  [[nodiscard]] Record const& record(Sequence handle) const {
    if (handle.index >= open_.size() || !open_[handle.index].open ||
        open_[handle.index].generation != handle.generation) {
      throw UnknownSequence("sequence {" + std::to_string(handle.index) + ", " +
                            std::to_string(handle.generation) + "} is not open");
    }
    return open_[handle.index];
  }

  [[nodiscard]] Record& record(Sequence handle) {
    return const_cast<Record&>(std::as_const(*this).record(handle));
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
  Geometry geometry_;
  detail::CacheStorage<C> memory_;
  std::vector<Record> open_;
  std::vector<bool> taken_;  ///< by the batch that is checked
  std::vector<Sequence> batch_;
};

}  // namespace kvfreeze::gpu
