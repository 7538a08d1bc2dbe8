#pragma once

#include <kvfreeze/detail/tier_worker.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/cached_slots.cuh>
#include <kvfreeze/gpu/detail/block_cache.hpp>
#include <kvfreeze/gpu/detail/passed_steps.cuh>
#include <kvfreeze/gpu/detail/spill_kernels.cuh>
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
    std::uint32_t filling = 0;  ///< the first block of each lane that is not complete
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
  }

  // --- a step, in this order ---------------------------------------------------------------------

  /// What earlier steps and the thread are done with. @throws the thread's first failure, CudaError
  void catch_up(cudaStream_t stream) {
    passed_.record(step_, stream);
    passed_.poll();
    cache.release(passed_.step());
    while (auto const result = worker_.poll()) {
      take(*result);
    }
    throw_failure();
  }

  /// @brief Room for a sequence's new rows in each lane.
  /// @throws CapacityError, or what the lower tier throws
  void grow(SequenceGranules const& grown) {
    SequenceState& sequence = sequences[grown.sequence];
    for (; sequence.blocks < blocks_of(grown.granules); ++sequence.blocks) {
      for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
        hold(block(grown.sequence, lane, sequence.blocks));
      }
    }
  }

  /// Fetches what passed steps missed, as far as there is room.
  void read_misses() {
    unserved_ = 0;
    std::uint32_t const last = passed_.step();
    std::uint32_t const kept = step_ < miss_buffers ? 1 : step_ + 1 - miss_buffers;
    for (std::uint32_t step = std::max(read_step_ + 1, kept); step <= last; ++step) {
      std::uint32_t const* const buffer =
          missed.data() + (step % miss_buffers) * (std::size_t{misses.room} + 1);
      counts.missed += buffer[0];
      for (std::uint32_t i = 0; i < buffer[0]; ++i) {
        std::uint32_t const number = buffer[1 + i];
        if (cache.where(number) != BlockCache::below) {
          continue;  // on its way, or forgotten
        }
        if (cache.free_places() == 0) {
          unserved_ += 1;  // it will be missed again
          continue;
        }
        submit(cache.take(number, PlaceState::loading), true);
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

  /// The step begins: blocks behind which there is another granule are complete when it has passed.
  void complete(SequenceGranules const& grown) noexcept {
    SequenceState& sequence = sequences[grown.sequence];
    sequence.granules = grown.granules;
    for (; ((sequence.filling + 1) << block_shift) < grown.granules; ++sequence.filling) {
      for (std::uint32_t lane = 0; lane < geometry.lanes; ++lane) {
        auto& place = cache.place(cache.where(block(grown.sequence, lane, sequence.filling)));
        place.state = PlaceState::dirty;
        place.after = step_ + 1;
      }
    }
  }

  /// Tells the device what changed, and that the step begins.
  void begin(cudaStream_t stream) {
    flush(stream);
    step_ += 1;
    begin_step_kernel<<<1, 1, 0, stream>>>(now.data(), step_, step_ % miss_buffers, misses);
    check_launch("begin_step_kernel");
  }

  // --- between steps -----------------------------------------------------------------------------

  /// @brief Forgets the blocks of a sequence's lanes that begin at a granule or behind it, here and
  /// below. Waits for the thread and the stream.
  void forget(std::uint32_t index, std::uint32_t granules, cudaStream_t stream) {
    drain();
    std::uint32_t const first = blocks_of(granules);
    for (std::uint32_t lane = 0; first < lane_blocks && lane < geometry.lanes; ++lane) {
      for (std::uint32_t number = first; number < lane_blocks; ++number) {
        std::size_t const forgotten = block(index, lane, number);
        std::uint32_t const at = cache.where(forgotten);
        if (at < BlockCache::below) {
          update(forgotten);
          cache.leave(at, BlockCache::nowhere, step_);
        } else {
          cache.forget(forgotten);
        }
      }
      std::uint32_t const granule = first << block_shift;
      worker_.tier().erase({index, lane, granule}, geometry.granules - granule);
    }
    worker_.note_bytes();
    flush(stream);
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    passed_.note(step_);
    cache.release(passed_.step());
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

  /// The device may be writing them.
  [[nodiscard]] std::uint32_t const volatile* stamps() const noexcept { return needed.data(); }

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
      if (place.seen == stamps()[at]) {
        unmap(at);
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
    std::uint32_t const place = cache.victim(stamps(), passed_.step(), visits);
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
        passed_.wait();
        cache.release(passed_.step());
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
                "SpillingTier::begin_step: rows that are being appended fill the cache of " +
                    std::to_string(held) + " bytes",
                held + block_bytes, held);
          }
        }
      }
      throw_failure();
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
      take(worker_.wait());
      throw_failure();
    }
  }

  void flush(cudaStream_t stream) {
    BlockUpdates updates;
    for (std::size_t first = 0; first < updated_.size(); first += updates.count) {
      updates.count = static_cast<std::uint32_t>(
          std::min<std::size_t>(updated_.size() - first, updates_of_launch));
      for (std::uint32_t i = 0; i < updates.count; ++i) {
        updates.block[i] = updated_[first + i];
        updates.place[i] = cache.visible(updates.block[i]);
      }
      constexpr int threads = 256;
      update_blocks_kernel<threads><<<1, threads, 0, stream>>>(updates, table.data());
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
  std::exception_ptr failure_;
  kvfreeze::detail::TierWorker<Lower> worker_;  // last: its thread ends before the rest goes
};

}  // namespace kvfreeze::gpu::detail
