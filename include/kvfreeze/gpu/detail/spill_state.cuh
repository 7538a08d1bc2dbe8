#pragma once

#include <kvfreeze/detail/tier_worker.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/cached_slots.cuh>
#include <kvfreeze/gpu/detail/block_cache.hpp>
#include <kvfreeze/gpu/detail/passed_steps.cuh>
#include <kvfreeze/gpu/detail/spill_kernels.cuh>
#include <kvfreeze/gpu/detail/spilled_rows.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/spilling_options.cuh>
#include <kvfreeze/tier/request.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::gpu::detail {

/// @brief What a SpillingTier is made of, in one place in memory: its thread refers to it.
template <class Lower>
class SpillState {
 public:
  /// A sequence's lanes have as many granules each.
  struct SequenceState {
    bool open = false;
    std::uint32_t granules = 0;
    std::uint32_t blocks = 0;   ///< of each lane, up to here with a place, or complete
    std::uint32_t filling = 0;  ///< the first block of each lane that may be written again
    // Before a step's rows had places:
    std::uint32_t blocks_before = 0;
    std::uint32_t filling_before = 0;
  };

  SpillState(TierGeometry const& g, SpillingTierOptions const& o, Lower lower)
      : geometry(g),
        block_shift(static_cast<std::uint32_t>(std::countr_zero(o.block_granules))),
        block_bytes(std::size_t{o.block_granules} * 2 * g.part_bytes),
        lane_blocks((g.granules - 1) / o.block_granules + 1),
        sequences(g.sequences),
        cache(std::size_t{g.sequences} * g.lanes * lane_blocks,
              static_cast<std::uint32_t>(o.cache_bytes / block_bytes)),
        memory(cache.places() * block_bytes),
        needed(cache.places()),
        missed(miss_buffers * (std::size_t{o.most_misses} + 1)),
        table(std::size_t{g.sequences} * g.lanes * lane_blocks),
        now(1),
        misses{missed.device(), o.most_misses},
        worker_(std::move(lower), g, cache.places(), o.block_granules) {
    check(cudaMemset(table.data(), 0xFF, table.size_bytes()), "cudaMemset");
    check(cudaMemset(now.data(), 0, now.size_bytes()), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // streams do not wait for fills
    std::fill(needed.begin(), needed.end(), 0U);
    std::fill(missed.begin(), missed.end(), 0U);
    updated_.reserve(4 * cache.places());
    kept_.reserve(cache.places());
    stored_.reserve(cache.places());
  }

  /// @brief While it lives blocks may leave that no step needed from `from` on. At other times none
  /// does: a step that goes on may have asked for it, and rely on that.
  class Turn {
   public:
    explicit Turn(SpillState& state, std::uint32_t from = BlockCache::nowhere) : state_(state) {
      state_.stays_from_ = from;
    }

    Turn(Turn const&) = delete;
    Turn& operator=(Turn const&) = delete;

    ~Turn() { state_.stays_from_ = 0; }

   private:
    SpillState& state_;
  };

  // --- a step, in this order, during a Turn ------------------------------------------------------

  /// What earlier steps and the thread are done with. @throws the thread's first failure, CudaError
  void catch_up(cudaStream_t stream) {
    end_spill_step_kernel<<<1, 1, 0, stream>>>(now.data(), misses);
    check_launch("end_spill_step_kernel");
    passed_.record(step_, stream);
    passed_.poll();
    keep_none();
    cache.release(passed_.step());
    hear_worker();
  }

  /// @brief Room for a sequence's new rows in each lane; what may be written again is here.
  /// @throws CapacityError, or what the lower tier throws
  void grow(SequenceGranules const& grown) {
    SequenceState& sequence = sequences[grown.sequence];
    sequence.blocks_before = sequence.blocks;
    sequence.filling_before = sequence.filling;
    for (; sequence.filling > first_unsettled(grown); --sequence.filling) {  // it was cut
      hold_all(grown.sequence, sequence.filling - 1);
    }
    for (; sequence.blocks < blocks_of(grown.granules); ++sequence.blocks) {
      hold_all(grown.sequence, sequence.blocks);
    }
  }

  /// The step has not begun: places that new rows had are free again, and blocks that were held may
  /// leave.
  void give_up(SequenceGranules const& grown) {
    SequenceState& sequence = sequences[grown.sequence];
    std::uint32_t const end = std::min(sequence.blocks + 1, lane_blocks);
    for (std::uint32_t number = blocks_of(sequence.granules); number < end; ++number) {
      for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
        lose_place(block(grown.sequence, lane, number));
      }
    }
    sequence.blocks = sequence.blocks_before;
    sequence.filling = sequence.filling_before;
    for (std::uint32_t number = first_unsettled(grown); number < sequence.filling; ++number) {
      end_all(grown.sequence, number, step_);
    }
  }

  /// Fetches what passed steps missed, as far as there is room: first what must be exact, then the
  /// rest, from another one on each time, so that no lane always comes last.
  void read_misses() {
    unserved_ = 0;
    std::uint32_t const last = passed_.step();
    std::uint32_t const kept = step_ < miss_buffers ? 1 : step_ + 1 - miss_buffers;
    for (std::uint32_t step = std::max(read_step_ + 1, kept); step <= last; ++step) {
      std::uint32_t const* const buffer =
          missed.data() + (step % miss_buffers) * (std::size_t{misses.room} + 1);
      std::uint32_t const count = buffer[0];
      counts.missed += count;
      std::uint32_t const first = count > 0 ? step * 7919U % count : 0;
      for (bool const urgent : {true, false}) {
        for (std::uint32_t i = 0; i < count; ++i) {
          std::uint32_t const at = first + i < count ? first + i : first + i - count;
          if (Miss const miss{buffer[1 + at]}; miss.is_urgent() == urgent) {
            load(miss.block());
          }
        }
      }
    }
    read_step_ = std::max(read_step_, last);
  }

  /// Sends blocks away until an eighth of the cache is free or about to be, and what was missed has
  /// room; looks at part of the cache at a time, and at nothing twice: what came back just now
  /// stays for this step.
  void spill() {
    std::size_t const wanted = cache.places() / 8 + unserved_;
    std::size_t visits = std::min(cache.places(), std::max<std::size_t>(cache.places() / 4, 64));
    while (cache.free_places() + cache.leaving() + storing_ < wanted && send_away(visits)) {
    }
  }

  /// The step begins: blocks behind which there is another settled granule are complete when it
  /// has passed.
  void complete(SequenceGranules const& grown) noexcept {
    SequenceState& sequence = sequences[grown.sequence];
    sequence.granules = grown.granules;
    for (; sequence.filling < first_unsettled(grown); ++sequence.filling) {
      end_all(grown.sequence, sequence.filling, step_ + 1);
    }
  }

  /// Tells the device what changed, and that the step begins.
  void begin(cudaStream_t stream) {
    flush(stream, {step_ + 1, (step_ + 1) % miss_buffers, 0});
    step_ += 1;
  }

  // --- beside steps ------------------------------------------------------------------------------

  /// @brief Has the blocks of some granules of some lanes here until the next step begins, as far
  /// as rows were appended to them. Waits for the stream and for the thread.
  /// @param in_step does a step go on? Then what it has asked for so far stays
  /// @throws CapacityError if they have no room beside rows that are being appended
  /// @throws what the lower tier throws, CudaError
  void fetch(StoredRange const& range, bool in_step, cudaStream_t stream) {
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    passed_.poll();
    is_idle_ = true;  // no kernel runs: a place that a block leaves is free at once
    Turn const turn(*this, in_step ? step_ : BlockCache::nowhere);
    try {
      keep_none();
      release_left();
      hear_worker();
      bring(range);
    } catch (...) {
      end_fetch(stream);  // blocks that made way are not where kernels of this step would look
      throw;
    }
    end_fetch(stream);
  }

  /// Blocks that fetch() has room for now. Waits for the stream. @throws CudaError
  [[nodiscard]] std::size_t fetchable(bool in_step, cudaStream_t stream) {
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    passed_.poll();
    return cache.places() -
           cache.bound_places(stamps(), passed_.step(), in_step ? step_ : BlockCache::nowhere);
  }

  /// Blocks of a lane that hold granules [begin, end).
  [[nodiscard]] std::uint32_t blocks_between(std::uint32_t begin,
                                             std::uint32_t end) const noexcept {
    return begin < end ? blocks_of(end) - (begin >> block_shift) : 0;
  }

  /// @brief Forgets the blocks of a sequence's lanes that begin at a granule or behind it, here and
  /// below. Waits for the thread and the stream.
  void forget(std::uint32_t index, std::uint32_t granules, cudaStream_t stream) {
    drain();
    std::uint32_t const first = blocks_of(granules);
    for (std::uint32_t lane = 0; first < lane_blocks && lane < geometry.lanes; ++lane) {
      for (std::uint32_t number = first; number < lane_blocks; ++number) {
        std::size_t const forgotten = block(index, lane, number);
        if (!lose_place(forgotten)) {
          cache.forget(forgotten);
        }
      }
      std::uint32_t const granule = first << block_shift;
      worker_.tier().erase({index, lane, granule}, geometry.granules - granule);
    }
    worker_.note_bytes();
    flush(stream);
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    cache.release(BlockCache::nowhere);
  }

  /// The lower tier. Waits for the thread; its failures are told by the next step.
  [[nodiscard]] Lower& lower() {
    drain();
    return worker_.tier();
  }

  [[nodiscard]] std::size_t lower_bytes() const noexcept { return worker_.bytes(); }

  TierGeometry geometry;
  std::uint32_t block_shift;
  std::size_t block_bytes;
  std::uint32_t lane_blocks;
  std::vector<SequenceState> sequences;
  BlockCache cache;
  PinnedArray<std::byte> memory;      ///< [place][granule][K, V]
  PinnedArray<std::uint32_t> needed;  ///< [place]: step that needed it last
  PinnedArray<std::uint32_t> missed;  ///< [buffer][1 + most_misses]
  DeviceArray<CachedSlots::Entry> table;
  DeviceArray<SpillStep> now;
  MissBuffers misses;
  SpillCounts counts;

  [[nodiscard]] std::uint32_t block_granules() const noexcept { return 1U << block_shift; }

 private:
  static constexpr std::uint32_t miss_buffers = 4;  // steps whose misses may be unread

  [[nodiscard]] std::uint32_t blocks_of(std::uint32_t granules) const noexcept {
    return (granules + block_granules() - 1) >> block_shift;
  }

  /// The first block of a lane that is not complete.
  [[nodiscard]] std::uint32_t first_unsettled(SequenceGranules const& grown) const noexcept {
    std::uint32_t const settled = grown.granules - std::min(grown.unsettled, grown.granules);
    return settled == 0 ? 0 : (settled - 1) >> block_shift;
  }

  /// A block by sequence, lane and number within the lane.
  [[nodiscard]] std::size_t block(std::uint32_t sequence, std::uint32_t lane,
                                  std::uint32_t number) const noexcept {
    return (std::size_t{sequence} * geometry.lanes + lane) * lane_blocks + number;
  }

  [[nodiscard]] TierKey key(std::size_t number) const noexcept {
    std::size_t const lane = number / lane_blocks;
    return {static_cast<std::uint32_t>(lane / geometry.lanes),
            static_cast<std::uint32_t>(lane % geometry.lanes),
            static_cast<std::uint32_t>(number % lane_blocks) << block_shift};
  }

  void throw_failure() {
    if (failure_) {
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
  }

  /// The device is to be told where a block is.
  void update(std::size_t number) { updated_.push_back(static_cast<std::uint32_t>(number)); }

  /// A block is nowhere any more. @return false, and nothing happens, if it has no place
  bool lose_place(std::size_t number) {
    std::uint32_t const at = cache.where(number);
    if (at >= BlockCache::below) {
      return false;
    }
    update(number);
    cache.leave(at, BlockCache::nowhere, step_);
    return true;
  }

  /// The device may be writing them.
  [[nodiscard]] std::uint32_t const volatile* stamps() const noexcept { return needed.data(); }

  /// A block that was stored because nobody needed it, and still nobody does.
  void send_stored_away(std::uint32_t at) {
    BlockCache::Place const& place = cache.place(at);
    std::uint32_t const stamp = stamps()[at];
    if (place.state == PlaceState::clean && !place.kept && stamp < stays_from_ &&
        place.seen == stamp) {
      unmap(at);
    }
  }

  /// What the thread is done with, during a Turn. @throws its first failure
  void hear_worker() {
    for (std::uint32_t const at : stored_) {
      send_stored_away(at);
    }
    stored_.clear();
    while (auto const result = worker_.poll()) {
      take(*result);
    }
    throw_failure();
  }

  /// Waits for the next thing that the thread does. @throws its first failure
  void await_worker() {
    take(worker_.wait());
    throw_failure();
  }

  /// Blocks that a fetch() had here may leave.
  void keep_none() noexcept {
    for (std::uint32_t const place : kept_) {
      cache.place(place).kept = false;
    }
    kept_.clear();
  }

  /// Places that blocks have left are free as soon as no kernel knows them.
  void release_left() {
    if (!is_idle_) {
      passed_.wait();
    }
    cache.release(is_idle_ ? BlockCache::nowhere : passed_.step());
  }

  void end_fetch(cudaStream_t stream) {
    is_idle_ = false;
    flush(stream);
  }

  /// As fetch(), when no kernel runs.
  void bring(StoredRange const& range) {
    auto const for_each = [&](auto const& f) {
      std::uint32_t const end = blocks_of(std::min(range.end, sequences[range.sequence].granules));
      for (std::uint32_t lane = range.first_lane; lane < range.first_lane + range.lanes; ++lane) {
        for (std::uint32_t i = range.begin >> block_shift; i < end; ++i) {
          f(block(range.sequence, lane, i));
        }
      }
    };
    for_each([&](std::size_t number) {
      std::uint32_t at = cache.where(number);
      if (at == BlockCache::below) {
        make_free_place();
        at = cache.take(number, PlaceState::loading);
        submit(at, true);
      }
      if (at < BlockCache::below) {
        cache.place(at).kept = true;
        kept_.push_back(at);
      }
    });
    for_each([&](std::size_t number) {
      while (cache.where(number) < BlockCache::below &&
             cache.visible(number) == BlockCache::nowhere) {
        await_worker();
      }
    });
  }

  /// A block that is below comes back, if there is room.
  void load(std::size_t number) noexcept {
    if (cache.where(number) != BlockCache::below) {
      return;  // on its way, or forgotten
    }
    if (cache.free_places() == 0) {
      unserved_ += 1;  // it will be missed again
      return;
    }
    submit(cache.take(number, PlaceState::loading), true);
  }

  void submit(std::uint32_t place, bool load) noexcept {
    TierKey const first = key(cache.place(place).block);
    storing_ += load ? 0 : 1;
    worker_.submit({first, std::min(block_granules(), geometry.granules - first.granule),
                    memory.data() + place * block_bytes, place, load});
  }

  /// The device is to forget a place; the block is in the lower tier.
  void unmap(std::uint32_t place) {
    update(cache.place(place).block);
    cache.leave(place, BlockCache::below, step_);
  }

  void take(kvfreeze::detail::TierResult const& result) {
    std::uint32_t const at = result.task.tag;
    BlockCache::Place& place = cache.place(at);
    storing_ -= result.task.load ? 0 : 1;
    if (result.failure) {
      failure_ = failure_ ? failure_ : result.failure;
      if (result.task.load) {
        cache.leave(at, BlockCache::below, 0);  // no kernel knew it
        cache.release(passed_.step());
      } else {
        place.state = PlaceState::dirty;
      }
      return;
    }
    place.state = PlaceState::clean;
    if (result.task.load) {
      needed[at] = step_ + 1;  // nobody else writes it before the device knows the place
      update(place.block);
      counts.loaded += 1;
    } else {
      counts.stored += 1;
      if (stays_from_ == 0) {
        stored_.push_back(at);
      } else {
        send_stored_away(at);
      }
    }
  }

  void drain() {
    while (worker_.under_way() > 0) {
      take(worker_.wait());
    }
  }

  /// Sends a block away. @return false if the hand found none
  bool send_away(std::size_t& visits) {
    std::uint32_t const place = cache.victim(stamps(), passed_.step(), stays_from_, visits);
    if (place == BlockCache::nowhere) {
      return false;
    }
    if (cache.place(place).state == PlaceState::clean) {
      unmap(place);
    } else {
      cache.place(place).state = PlaceState::storing;
      submit(place, false);
    }
    return true;
  }

  /// @brief Waits until there is a free place.
  /// @throws CapacityError if all are in use by rows that are being appended
  void make_free_place() {
    while (cache.free_places() == 0) {
      if (cache.leaving() > 0) {
        release_left();
      } else if (worker_.under_way() > 0) {
        take(worker_.wait());
      } else {
        std::size_t visits = 2 * cache.places();  // twice round: the first takes stamps
        if (!send_away(visits)) {
          passed_.wait();  // what was written just now may leave then
          visits = 2 * cache.places();
          if (!send_away(visits)) {
            std::size_t const held = cache.places() * block_bytes;
            throw CapacityError(
                "SpillingTier: rows that are being appended, or needed together, fill its " +
                    std::to_string(held) + " bytes of pinned memory",
                held + block_bytes, held);
          }
        }
      }
      throw_failure();
    }
  }

  /// hold() in all lanes of a sequence.
  void hold_all(std::uint32_t sequence, std::uint32_t number) {
    for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
      hold(block(sequence, lane, number));
    }
  }

  /// What hold_all() holds is complete when a step has passed.
  void end_all(std::uint32_t sequence, std::uint32_t number, std::uint32_t after) noexcept {
    for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
      std::uint32_t const at = cache.where(block(sequence, lane, number));
      if (at < BlockCache::below && cache.place(at).state == PlaceState::filling) {
        cache.place(at).state = PlaceState::dirty;
        cache.place(at).after = after;
      }
    }
  }

  /// A block that rows are appended to gets a place, and keeps it until it is complete.
  void hold(std::size_t number) {
    for (;;) {
      std::uint32_t const at = cache.where(number);
      if (at == BlockCache::nowhere) {
        make_free_place();
        std::uint32_t const place = cache.take(number, PlaceState::filling);
        needed[place] = step_ + 1;
        update(number);
        return;
      }
      if (at == BlockCache::below) {  // truncated in the middle, some time ago
        make_free_place();
        submit(cache.take(number, PlaceState::loading), true);
        continue;
      }
      PlaceState& state = cache.place(at).state;
      if (state != PlaceState::loading && state != PlaceState::storing) {
        state = PlaceState::filling;
        return;
      }
      await_worker();
    }
  }

  /// Tells the device what changed.
  /// @param next the step that begins, or none
  void flush(cudaStream_t stream, SpillStep const& next = {}) {
    constexpr int threads = 256;
    std::size_t first = 0;
    bool begun = next.step == 0;
    while (first < updated_.size() || !begun) {
      BlockUpdates updates;
      updates.count = static_cast<std::uint32_t>(
          std::min<std::size_t>(updated_.size() - first, updates_of_launch));
      for (std::uint32_t i = 0; i < updates.count; ++i) {
        updates.block[i] = updated_[first + i];
        updates.place[i] = cache.visible(updates.block[i]);
      }
      first += updates.count;
      begun = first == updated_.size();
      update_blocks_kernel<threads><<<1, threads, 0, stream>>>(updates, table.data(), now.data(),
                                                               begun ? next : SpillStep{});
      check_launch("update_blocks_kernel");
    }
    updated_.clear();
  }

  PassedSteps passed_;
  std::uint32_t step_ = 0;              // the latest that began
  std::uint32_t read_step_ = 0;         // the latest whose misses were read
  std::size_t unserved_ = 0;            // misses for which there was no room
  std::size_t storing_ = 0;             // blocks
  std::vector<std::uint32_t> updated_;  // blocks whose place changed; some more than once
  std::vector<std::uint32_t> kept_;     // places of the last fetch()
  std::vector<std::uint32_t> stored_;   // places whose blocks were stored when none could leave
  bool is_idle_ = false;                // no kernel runs
  std::uint32_t stays_from_ = 0;        // what was needed from that step on stays
  std::exception_ptr failure_;
  kvfreeze::detail::TierWorker<Lower> worker_;  // last: its thread ends before the rest goes
};

}  // namespace kvfreeze::gpu::detail
