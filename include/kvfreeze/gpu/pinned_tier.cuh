#pragma once

#include <kvfreeze/detail/describe.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/gpu/detail/slab.cuh>
#include <kvfreeze/gpu/detail/staged_moves.cuh>
#include <kvfreeze/gpu/granule_pool.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/gpu/movers.cuh>
#include <kvfreeze/gpu/tier_slots.cuh>
#include <kvfreeze/tier/request.hpp>
#include <kvfreeze/types.hpp>

#include <cuda/stream_ref>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace kvfreeze::gpu {

/// Settings of a PinnedTier.
struct PinnedTierOptions {
  std::size_t capacity_bytes = unlimited;  ///< an open() that would exceed it fails
  /// Granules that move at a time where the system refused to pin a slab; in [1, 2^24].
  std::uint32_t staging_granules = 1024;
};

/// @brief Exact rows in host memory that kernels reach themselves: pinned and mapped, a slab with
/// room for every granule for each open sequence.
///
/// Every row is written when it is appended, so that freezing it later moves nothing. Nothing is
/// allocated between open() and close().
///
/// Where the system refuses to pin a slab, it is ordinary memory and is_pinned() is false: then
/// kernels must not use slots(), and thaw_async() and freeze_async() go through a small pinned
/// buffer and a function on the host. warning() says so.
///
/// One stream at a time: work on another stream has to wait for this one's.
class PinnedTier {
 public:
  /// @throws InvalidArgument if an extent of the geometry is 0, part_bytes is no multiple of 16,
  /// there are more than 65536 sequences, or an option is out of range
  /// @throws OutOfMemory, CudaError
  explicit PinnedTier(TierGeometry const& geometry, PinnedTierOptions const& options = {})
      : state_(std::make_unique<State>(checked(geometry), checked(options))) {}

  /// @brief Makes room for a sequence. Its rows are not initialised.
  /// @param stream whatever uses the slab runs on it, or after what is on it now
  /// @throws InvalidArgument if the sequence is out of range or open already
  /// @throws CapacityError if the slab would exceed the capacity; nothing changed
  /// @throws OutOfMemory, CudaError; nothing changed
  /// @complexity O(bytes of the slab): the system clears and pins them. Not for a decode path
  void open(std::uint32_t sequence, ::cuda::stream_ref stream) {
    State& s = *state_;
    if (sequence >= s.geometry.sequences || s.slabs[sequence].data() != nullptr) {
      throw InvalidArgument(
          "PinnedTier::open: sequence " + std::to_string(sequence) +
          (sequence < s.geometry.sequences ? " is open already" : " is not below " + sequences()));
    }
    require(slab_bytes());
    detail::Slab slab(slab_bytes());
    bool const pinned = slab.device() != nullptr;
    std::unique_ptr<detail::StagedMoves> staged;
    if (!pinned && s.staged == nullptr) {
      require(slab_bytes() +
              detail::StagedMoves::bytes_for(s.geometry, s.options.staging_granules));
      staged = std::make_unique<detail::StagedMoves>(s.geometry, s.options.staging_granules,
                                                     s.addresses);
    }
    enter(sequence, slab.device(), stream);
    if (staged != nullptr) {
      s.staged = std::move(staged);
    }
    if (!pinned) {
      s.pageable += 1;
      s.warning = "kvfreeze: rows of sequence " + std::to_string(sequence) +
                  " lie in memory that is not pinned, and move through the host: " + slab.refusal();
    }
    s.addresses[sequence] = slab.data();
    s.slabs[sequence] = std::move(slab);
  }

  /// @brief Gives a sequence's memory back.
  /// @param stream is waited for; all work on the slab must be on it or before what is on it
  /// @throws InvalidArgument if the sequence is not open
  /// @throws CudaError what the work on the stream failed with; the memory is given back
  void close(std::uint32_t sequence, ::cuda::stream_ref stream) {
    State& s = *state_;
    if (!is_open(sequence)) {
      throw InvalidArgument("PinnedTier::close: sequence " + std::to_string(sequence) +
                            " is not open");
    }
    cudaError_t const status = cudaStreamSynchronize(stream.get());
    s.pageable -= s.slabs[sequence].device() == nullptr ? 1U : 0U;
    s.addresses[sequence] = nullptr;
    s.slabs[sequence] = {};
    if (s.pageable == 0) {
      s.staged.reset();
      s.warning.clear();
    }
    check(status, "cudaStreamSynchronize");
    enter(sequence, nullptr, stream);
  }

  [[nodiscard]] bool is_open(std::uint32_t sequence) const noexcept {
    return sequence < state_->geometry.sequences && state_->slabs[sequence].data() != nullptr;
  }

  /// Are all open sequences' slabs pinned? A graph has to be captured again where this changes.
  [[nodiscard]] bool is_pinned() const noexcept { return state_->pageable == 0; }

  /// What the report should say: why slabs are not pinned. Empty if they are.
  [[nodiscard]] std::string const& warning() const noexcept { return state_->warning; }

  /// @brief What kernels need to find granules. The same for the tier's lifetime.
  [[nodiscard]] TierSlots slots() const noexcept {
    return {Span<std::byte* const>(state_->table.data(), state_->table.size()), state_->geometry};
  }

  /// @brief K and V of a granule for the host: to be read or written while no work on the device
  /// touches it.
  /// @throws TierError if the sequence is not open or the key is outside the geometry
  [[nodiscard]] std::span<std::byte> granule(TierKey key) const {
    State const& s = *state_;
    if (!is_open(key.sequence) || key.lane >= s.geometry.lanes ||
        key.granule >= s.geometry.granules) {
      throw TierError("PinnedTier::granule: (" + kvfreeze::detail::describe(key) +
                      ") is not in an open sequence of " + std::to_string(s.geometry.lanes) +
                      " lanes and " + std::to_string(s.geometry.granules) + " granules");
    }
    std::size_t const index = std::size_t{key.lane} * s.geometry.granules + key.granule;
    return {s.addresses[key.sequence] + index * granule_bytes(), granule_bytes()};
  }

  /// @brief gpu::thaw_async() from this tier, by whichever way its memory allows.
  /// @stream_semantics asynchronous; may be captured in a graph, which then refers to this tier.
  /// One launch if is_pinned(), else two launches and a host function for each `staging_granules`
  /// jobs that the list has room for
  void thaw_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                  GranulePool const& pool, Span<std::uint64_t> moved_bytes,
                  ::cuda::stream_ref stream) {
    if (is_pinned()) {
      gpu::thaw_async(jobs, count, slots(), pool, moved_bytes, stream);
    } else {
      detail::check_move("PinnedTier::thaw_async", jobs, count, state_->geometry, pool,
                         moved_bytes);
      state_->staged->thaw(detail::move_arguments(jobs, count, state_->geometry, pool, moved_bytes),
                           stream.get());
    }
  }

  /// @brief gpu::freeze_async() to this tier. As thaw_async() otherwise.
  void freeze_async(Span<MoveJob const> jobs, Span<std::uint32_t const> count,
                    GranulePool const& pool, Span<std::uint64_t> moved_bytes,
                    ::cuda::stream_ref stream) {
    if (is_pinned()) {
      gpu::freeze_async(jobs, count, pool, slots(), moved_bytes, stream);
    } else {
      detail::check_move("PinnedTier::freeze_async", jobs, count, state_->geometry, pool,
                         moved_bytes);
      state_->staged->freeze(
          detail::move_arguments(jobs, count, state_->geometry, pool, moved_bytes), stream.get());
    }
  }

  /// Host memory held: slabs and the pinned buffer.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = state_->staged != nullptr ? state_->staged->bytes() : 0;
    for (detail::Slab const& slab : state_->slabs) {
      sum += slab.bytes();
    }
    return sum;
  }

  /// Device memory held: the table of slabs.
  [[nodiscard]] std::size_t device_bytes() const noexcept { return state_->table.size_bytes(); }

  [[nodiscard]] std::size_t capacity() const noexcept { return state_->options.capacity_bytes; }

  /// Host memory of an open sequence: whole pages.
  [[nodiscard]] std::size_t slab_bytes() const noexcept {
    TierGeometry const& g = state_->geometry;
    std::size_t const page = host::VirtualMemory::page_bytes();
    return (std::size_t{g.lanes} * g.granules * granule_bytes() + page - 1) / page * page;
  }

  [[nodiscard]] std::size_t granule_bytes() const noexcept {
    return 2 * state_->geometry.part_bytes;
  }

  [[nodiscard]] TierGeometry const& geometry() const noexcept { return state_->geometry; }

 private:
  /// In one place in memory: functions in streams refer to it.
  struct State {
    State(TierGeometry const& shape, PinnedTierOptions const& settings)
        : geometry(shape),
          options(settings),
          slabs(shape.sequences),
          addresses(shape.sequences, nullptr),
          table(shape.sequences) {
      check(cudaMemset(table.data(), 0, table.size_bytes()), "cudaMemset");
      check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // streams do not wait for the fill
    }

    TierGeometry geometry;
    PinnedTierOptions options;
    std::vector<detail::Slab> slabs;
    std::vector<std::byte*> addresses;  ///< [sequence], the host's
    DeviceArray<std::byte*> table;      ///< [sequence], the device's
    std::unique_ptr<detail::StagedMoves> staged;
    std::uint32_t pageable = 0;  ///< slabs that are not pinned
    std::string warning;
  };

  static TierGeometry const& checked(TierGeometry const& geometry) {
    detail::check_tier_geometry(geometry);
    return geometry;
  }

  static PinnedTierOptions const& checked(PinnedTierOptions const& options) {
    if (options.staging_granules < 1 || options.staging_granules > (1U << 24)) {
      throw InvalidArgument("PinnedTierOptions::staging_granules is " +
                            std::to_string(options.staging_granules) +
                            ", must be in [1, 16777216]");
    }
    return options;
  }

  void require(std::size_t more) const {
    std::size_t const held = bytes();
    std::size_t const capacity = state_->options.capacity_bytes;
    if (held > capacity || more > capacity - held) {
      throw CapacityError("PinnedTier::open: a sequence takes " + std::to_string(more) +
                              " bytes, " + std::to_string(held) + " of the capacity of " +
                              std::to_string(capacity) + " are in use",
                          held + more, capacity);
    }
  }

  [[nodiscard]] std::string sequences() const { return std::to_string(state_->geometry.sequences); }

  void enter(std::uint32_t sequence, std::byte* slab, ::cuda::stream_ref stream) {
    detail::set_slab_kernel<<<1, 1, 0, stream.get()>>>(state_->table.data() + sequence, slab);
    check_launch("set_slab_kernel");
  }

  std::unique_ptr<State> state_;
};

}  // namespace kvfreeze::gpu
