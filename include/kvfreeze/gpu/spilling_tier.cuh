#pragma once

#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/cached_slots.cuh>
#include <kvfreeze/gpu/detail/block_cache.hpp>
#include <kvfreeze/gpu/detail/launch_movers.cuh>
#include <kvfreeze/gpu/detail/spill_kernels.cuh>
#include <kvfreeze/gpu/detail/spill_state.cuh>
#include <kvfreeze/gpu/granule_pool.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/spilling_options.cuh>
#include <kvfreeze/gpu/transfer_budget.cuh>
#include <kvfreeze/policy_traits.hpp>
#include <kvfreeze/tier/host_tier.hpp>
#include <kvfreeze/tier/request.hpp>

#include <cuda/std/type_traits>
#include <cuda/stream_ref>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace kvfreeze::gpu {

/// @brief Exact rows in pinned memory of bounded size, over a lower tier that a thread serves.
///
/// Rows are written to pinned memory when they are appended. When that gets full, blocks of
/// granules that were not needed for some time go to the lower tier; a job whose block is not there
/// is a miss: resolve_async() sorts it out and tells the host, which reads that one step late or
/// more, has the block fetched, and enters it before a later step. Nothing waits for it meanwhile:
/// the job is carried over, first in line.
///
/// As a cache's tier it does all of this by itself. Alone, a step is: begin_step(), then in the
/// stream resolve_async() for each list of granules to thaw, thaw_async() of what is there,
/// freeze_async() of new rows; all but begin_step() may be captured. begin_step() waits if the
/// cache is too small, for the thread or for steps before this one, and for blocks that may be
/// written again behind a truncation.
///
/// One thread on the host at a time, one stream at a time. Movable while nothing is captured.
/// @tparam Lower model of TierPolicy that holds copies, without loss
template <TierPolicy Lower = HostTier>
class SpillingTier {
  static_assert(kvfreeze::detail::tier_kind<Lower>() == TierKind::holding,
                "kvfreeze: SpillingTier needs a lower tier that holds copies");
  static_assert(kvfreeze::detail::is_lossless<Lower>(),
                "kvfreeze: SpillingTier needs a lossless lower tier");

 public:
  /// @throws InvalidArgument for a geometry or an option out of range
  /// @throws CapacityError if the cache does not hold two blocks of each lane of a sequence
  /// @throws OutOfMemory if the system does not pin the cache, or lacks other memory
  /// @throws CudaError, or what the lower tier's attach() throws
  explicit SpillingTier(TierGeometry const& geometry, SpillingTierOptions const& options = {},
                        Lower lower = Lower())
      : state_(std::make_unique<State>(checked(geometry, options), options, std::move(lower))) {}

  /// @throws InvalidArgument if the sequence is out of range or open already
  void open(std::uint32_t sequence) {
    State& s = *state_;
    if (sequence >= s.geometry.sequences || s.sequences[sequence].open) {
      throw InvalidArgument("SpillingTier::open: sequence " + std::to_string(sequence) +
                            (sequence < s.geometry.sequences
                                 ? " is open already"
                                 : " is not below " + std::to_string(s.geometry.sequences)));
    }
    s.sequences[sequence] = {.open = true};
  }

  [[nodiscard]] bool is_open(std::uint32_t sequence) const noexcept {
    return sequence < state_->geometry.sequences && state_->sequences[sequence].open;
  }

  /// Granules of an open sequence, those of the step that has begun included.
  /// @throws InvalidArgument if it is not open
  [[nodiscard]] std::uint32_t granules(std::uint32_t sequence) const {
    check_open("granules", sequence);
    return state_->sequences[sequence].granules;
  }

  /// @brief Forgets a sequence, here and below. Waits for the stream and for the thread.
  /// @throws InvalidArgument if it is not open
  /// @throws CudaError what the work on the stream failed with; the sequence is closed
  void close(std::uint32_t sequence, ::cuda::stream_ref stream) {
    check_open("close", sequence);
    state_->sequences[sequence] = {};
    state_->forget(sequence, 0, stream.get());
  }

  /// @brief Forgets the granules of a sequence from `granules` on. The last one that is left may be
  /// written again. Waits for the stream and for the thread.
  /// @throws InvalidArgument if the sequence is not open or has fewer granules
  /// @throws CudaError
  void truncate(std::uint32_t sequence, std::uint32_t granules, ::cuda::stream_ref stream) {
    check_open("truncate", sequence);
    auto& record = state_->sequences[sequence];
    if (granules > record.granules) {
      throw InvalidArgument("SpillingTier::truncate: sequence " + std::to_string(sequence) +
                            " has " + std::to_string(record.granules) + " granules, not " +
                            std::to_string(granules));
    }
    state_->forget(sequence, granules, stream.get());
    record.granules = granules;
    record.blocks = granules == 0 ? 0 : (granules - 1) / state_->block_granules();
    record.filling = std::min(record.filling, record.blocks);
  }

  /// @brief Begins a step: reads what earlier steps missed, enters what came back, makes room for
  /// the rows that the step appends and for some of those that come.
  ///
  /// @param sequences whose rows are appended in this step, or in the steps until the next call
  /// @param stream the step's; must not be capturing
  /// @throws InvalidArgument if a sequence is not open, shrinks, or exceeds the geometry, or if the
  /// stream is being captured: nothing happened
  /// @throws CapacityError if the cache does not hold the rows that are being appended
  /// @throws TierError, or whatever the lower tier throws: the first failure since the last call.
  /// No row is lost; what failed is tried again when it is due again
  /// @throws CudaError
  /// After an exception the step has not begun: call again, or give up what was to be appended.
  /// @complexity O(lanes * blocks that begin or end + blocks that come or go), some 2 launches
  void begin_step(std::span<SequenceGranules const> sequences, ::cuda::stream_ref stream) {
    State& s = *state_;
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check(cudaStreamIsCapturing(stream.get(), &capture), "cudaStreamIsCapturing");
    if (capture != cudaStreamCaptureStatusNone) {
      throw InvalidArgument("SpillingTier::begin_step: the stream is being captured");
    }
    for (SequenceGranules const& grown : sequences) {
      check_open("begin_step", grown.sequence);
      std::uint32_t const now = s.sequences[grown.sequence].granules;
      if (grown.granules < now || grown.granules > s.geometry.granules) {
        throw InvalidArgument("SpillingTier::begin_step: sequence " +
                              std::to_string(grown.sequence) + " has " + std::to_string(now) +
                              " granules, not " + std::to_string(grown.granules) + " of at most " +
                              std::to_string(s.geometry.granules));
      }
    }
    typename State::Turn const turn(s);
    s.catch_up(stream.get());
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      try {
        s.grow(sequences[i]);
      } catch (...) {
        for (SequenceGranules const& grown : sequences.first(i + 1)) {
          s.give_up(grown);
        }
        throw;
      }
    }
    s.read_misses();
    s.spill();
    for (SequenceGranules const& grown : sequences) {
      s.complete(grown);
    }
    s.begin(stream.get());
  }

  /// @brief Has all blocks of some granules, as far as they were appended, in pinned memory until
  /// the next begin_step() or fetch(): kernels that are enqueued meanwhile find them. Within a step
  /// or between two. Waits for the stream and for the thread.
  /// @param in_step does a step go on? Then what it has asked for so far stays too
  /// @throws InvalidArgument if the sequence is not open, or lanes or granules are out of range
  /// @throws CapacityError if they have no room beside rows that are being appended
  /// @throws TierError, or whatever the lower tier throws; CudaError
  /// @complexity O(places + blocks), and what the lower tier takes for those that it has
  void fetch(StoredRange const& range, bool in_step, ::cuda::stream_ref stream) {
    check_open("fetch", range.sequence);
    TierGeometry const& g = state_->geometry;
    if (range.first_lane > g.lanes || range.lanes > g.lanes - range.first_lane ||
        range.begin > range.end || range.end > g.granules) {
      throw InvalidArgument("SpillingTier::fetch: lanes from " + std::to_string(range.first_lane) +
                            " on, " + std::to_string(range.lanes) + ", of " +
                            std::to_string(g.lanes) + ", granules [" + std::to_string(range.begin) +
                            ", " + std::to_string(range.end) + ") of " +
                            std::to_string(g.granules));
    }
    state_->fetch(range, in_step, stream.get());
  }

  /// @brief How many lanes' granules [begin, end) fetch() can have here at a time, at least 1.
  /// Waits for the stream.
  /// @param in_step as in fetch()
  /// @throws CapacityError if not even one has room
  /// @throws CudaError
  [[nodiscard]] std::uint32_t fetchable_lanes(std::uint32_t begin, std::uint32_t end, bool in_step,
                                              ::cuda::stream_ref stream) {
    State& s = *state_;
    std::size_t const blocks = s.blocks_between(begin, end);
    std::size_t const room = s.fetchable(in_step, stream.get());
    if (room < blocks) {
      throw CapacityError(
          "SpillingTier: a lane's granules [" + std::to_string(begin) + ", " + std::to_string(end) +
              ") take " + std::to_string(blocks * s.block_bytes) +
              " bytes of pinned memory, there are " + std::to_string(room * s.block_bytes),
          blocks * s.block_bytes, room * s.block_bytes);
    }
    return blocks == 0
               ? s.geometry.lanes
               : static_cast<std::uint32_t>(std::min(room / blocks, std::size_t{s.geometry.lanes}));
  }

  /// @brief Parts a list of jobs: those whose rows are here go to `kept`, in their order; the
  /// others are missed, carried over, and fetched.
  ///
  /// @param kept room for all of `jobs`; totals: jobs kept, jobs missed
  /// @param carry as for keep_affordable_async(). Whoever carries a job asks for it again in the
  /// next step: a block that nobody asks for any more may leave before it was used
  /// @throws InvalidArgument naming the argument and the numbers, before anything is launched
  /// @throws CudaError
  /// @stream_semantics asynchronous, one launch, may be captured in a graph
  /// @complexity O(jobs), in one block of threads
  template <class Carry = CarryNothing>
  void resolve_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                     KeptTransfers const& kept, Carry const& carry, ::cuda::stream_ref stream) {
    static_assert(::cuda::std::is_trivially_copyable_v<Carry>,
                  "kvfreeze: what carries jobs over must be trivially copyable");
    constexpr char const* name = "SpillingTier::resolve_async";
    detail::check_sizes(name, "count", count.size(), 1);
    detail::check_sizes(name, "totals", kept.totals.size(), 2);
    if (kept.jobs.size() < jobs.size() || jobs.size() > std::numeric_limits<std::uint32_t>::max()) {
      throw InvalidArgument(std::string(name) + ": there is room for " +
                            std::to_string(kept.jobs.size()) + " jobs, the list may hold " +
                            std::to_string(jobs.size()) + "; at most 2^32 - 1");
    }
    constexpr int threads = 1024;
    detail::resolve_kernel<threads><<<1, threads, 0, stream.get()>>>(jobs, count, rows(), kept.jobs,
                                                                     kept.totals.data(), carry);
    check_launch("resolve_kernel");
  }

  /// @brief gpu::thaw_async() of jobs whose rows are here; others move nothing and count nothing.
  void thaw_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                  GranulePool const& pool, Span<std::uint64_t> moved_bytes,
                  ::cuda::stream_ref stream) {
    detail::check_move("SpillingTier::thaw_async", jobs, count, state_->geometry, pool,
                       moved_bytes);
    detail::launch_move<true>(
        detail::move_arguments(jobs, count, state_->geometry, pool, moved_bytes), places(),
        stream.get());
  }

  /// @brief gpu::freeze_async() of rows that this step appends.
  void freeze_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                    GranulePool const& pool, Span<std::uint64_t> moved_bytes,
                    ::cuda::stream_ref stream) {
    detail::check_move("SpillingTier::freeze_async", jobs, count, state_->geometry, pool,
                       moved_bytes);
    detail::launch_move<false>(
        detail::move_arguments(jobs, count, state_->geometry, pool, moved_bytes), places(),
        stream.get());
  }

  /// @brief What kernels need to find granules. The same for the tier's lifetime.
  [[nodiscard]] CachedSlots slots() const noexcept {
    State const& s = *state_;
    return {s.table.span(), s.memory.device(), s.lane_blocks, s.block_shift, s.geometry};
  }

  /// @brief What kernels of a step ask whether a granule is there, and tell that they need it.
  [[nodiscard]] detail::SpilledRows rows() const noexcept {
    State const& s = *state_;
    return {slots(), s.needed.device(), s.now.data(), s.misses};
  }

  /// Host memory held: pinned memory, bookkeeping of blocks, and what the lower tier holds.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return pinned_bytes() + state_->cache.bytes() + state_->lower_bytes();
  }

  /// Of these, pinned.
  [[nodiscard]] std::size_t pinned_bytes() const noexcept {
    State const& s = *state_;
    return s.memory.size_bytes() + s.needed.size_bytes() + s.missed.size_bytes();
  }

  /// Device memory held: the table of blocks.
  [[nodiscard]] std::size_t device_bytes() const noexcept {
    return state_->table.size_bytes() + state_->now.size_bytes();
  }

  /// Blocks that the cache has room for.
  [[nodiscard]] std::size_t cached_blocks() const noexcept { return state_->cache.places(); }

  [[nodiscard]] SpillCounts const& counts() const noexcept { return state_->counts; }

  /// @brief The lower tier. Waits for the thread.
  [[nodiscard]] Lower& lower() { return state_->lower(); }

  [[nodiscard]] TierGeometry const& geometry() const noexcept { return state_->geometry; }

 private:
  using State = detail::SpillState<Lower>;

  static TierGeometry const& checked(TierGeometry const& g, SpillingTierOptions const& o) {
    auto const reject = [](char const* field, std::size_t value, char const* rule) {
      throw InvalidArgument(std::string(field) + " is " + std::to_string(value) + ", must be " +
                            rule);
    };
    detail::check_tier_geometry(g);
    if (o.block_granules > 4096 || !std::has_single_bit(o.block_granules)) {
      reject("SpillingTierOptions::block_granules", o.block_granules,
             "a power of two in [1, 4096]");
    }
    if (o.most_misses < 1 || o.most_misses > (1U << 24)) {
      reject("SpillingTierOptions::most_misses", o.most_misses, "in [1, 16777216]");
    }
    std::size_t const blocks =
        std::size_t{g.sequences} * g.lanes * ((g.granules - 1) / o.block_granules + 1);
    if (blocks >= detail::Miss::urgent) {
      reject("number of blocks", blocks, "below 2^31: take larger ones");
    }
    std::size_t const block_bytes = std::size_t{o.block_granules} * 2 * g.part_bytes;
    std::size_t const least = 2 * block_bytes * g.lanes;
    if (o.cache_bytes < least) {
      throw CapacityError("SpillingTierOptions::cache_bytes is " + std::to_string(o.cache_bytes) +
                              ", two blocks of each lane take " + std::to_string(least),
                          least, o.cache_bytes);
    }
    if (o.cache_bytes / block_bytes >= detail::BlockCache::below) {
      reject("SpillingTierOptions::cache_bytes", o.cache_bytes, "less than 2^32 - 2 blocks");
    }
    return g;
  }

  void check_open(char const* function, std::uint32_t sequence) const {
    if (!is_open(sequence)) {
      throw InvalidArgument(std::string("SpillingTier::") + function + ": sequence " +
                            std::to_string(sequence) + " is not open");
    }
  }

  [[nodiscard]] detail::CachedPlaces places() const noexcept {
    State const& s = *state_;
    return {s.table.data(), reinterpret_cast<uint4*>(s.memory.device()), s.lane_blocks,
            s.block_shift};
  }

  std::unique_ptr<State> state_;
};

}  // namespace kvfreeze::gpu
