#pragma once

/// @file
/// @brief Moves between the device and host memory that it cannot reach: through a small pinned
/// buffer, by a function on the host in the order of the stream.

#include <kvfreeze/gpu/detail/launch_movers.cuh>
#include <kvfreeze/gpu/detail/mover_kernels.cuh>
#include <kvfreeze/gpu/error.cuh>
#include <kvfreeze/gpu/memory.cuh>
#include <kvfreeze/tier/request.hpp>

#include <cuda/stream_ref>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace kvfreeze::gpu::detail {

/// @brief The buffer, [header][jobs][granules], and where slabs are. Its address is known to
/// functions in streams and graphs: it does not move.
class StagedMoves {
 public:
  /// @throws OutOfMemory if the buffer cannot be pinned
  StagedMoves(TierGeometry const& geometry, std::uint32_t granules,
              std::vector<std::byte*> const& slabs)
      : geometry_(geometry),
        slabs_(&slabs),
        capacity_(granules),
        buffer_(bytes_for(geometry, granules)) {}

  [[nodiscard]] static std::size_t bytes_for(TierGeometry const& geometry,
                                             std::uint32_t granules) noexcept {
    return sizeof(StagingHeader) + granules * (sizeof(MoveJob) + 2 * geometry.part_bytes);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return buffer_.size_bytes(); }

  /// Host memory -> pool: the jobs go to the host, which gathers, and a kernel fetches the rows.
  void thaw(MoveArguments a, cudaStream_t stream) {
    in_rounds(a, stream, [&](MoveArguments const& round, StagedPlaces const& places) {
      check(cudaLaunchHostFunc(stream, &gather, this), "cudaLaunchHostFunc");
      launch_move<true>(round, places, stream);
    });
  }

  /// Pool -> host memory.
  void freeze(MoveArguments a, cudaStream_t stream) {
    in_rounds(a, stream, [&](MoveArguments const& round, StagedPlaces const& places) {
      launch_move<false>(round, places, stream);
      check(cudaLaunchHostFunc(stream, &scatter, this), "cudaLaunchHostFunc");
    });
  }

 private:
  template <class Move>
  void in_rounds(MoveArguments a, cudaStream_t stream, Move const& move) {
    std::uint32_t const all = a.most;
    std::size_t const rows_at = sizeof(StagingHeader) + capacity_ * sizeof(MoveJob);
    StagedPlaces const places{reinterpret_cast<uint4*>(buffer_.device() + rows_at)};
    for (std::uint32_t first = 0; first < all; first += a.most) {
      a.first = first;
      a.most = std::min(capacity_, all - first);
      unsigned const blocks = std::min((a.most - 1) / mover_threads + 1, mover_blocks);
      publish_jobs_kernel<mover_threads><<<blocks, mover_threads, 0, stream>>>(
          a, reinterpret_cast<StagingHeader*>(buffer_.device()),
          reinterpret_cast<MoveJob*>(buffer_.device() + sizeof(StagingHeader)));
      check_launch("publish_jobs_kernel");
      move(a, places);
    }
  }

  /// Calls copy(slab's K, buffer's K, bytes) and the same for V, for each job in the buffer.
  template <class Copy>
  void for_each_part(Copy const& copy) const noexcept {
    StagingHeader header;
    std::memcpy(&header, buffer_.data(), sizeof header);
    std::byte const* const jobs = buffer_.data() + sizeof header;
    std::byte* const granules = buffer_.data() + sizeof header + capacity_ * sizeof(MoveJob);
    std::size_t const granule_bytes = 2 * geometry_.part_bytes;
    for (std::uint32_t i = 0; i < header.count; ++i) {
      MoveJob job;
      std::memcpy(&job, jobs + i * sizeof job, sizeof job);
      std::byte* const slab =
          (*slabs_)[job.sequence] +
          (std::size_t{job.lane} * geometry_.granules + job.granule) * granule_bytes;
      std::size_t const row = std::size_t{job.first_row} * header.row_bytes;
      std::size_t const bytes = std::size_t{job.rows} * header.row_bytes;
      for (std::size_t const part : {row, geometry_.part_bytes + row}) {
        copy(slab + part, granules + i * granule_bytes + part, bytes);
      }
    }
  }

  static void CUDART_CB gather(void* self) noexcept {
    static_cast<StagedMoves const*>(self)->for_each_part(
        [](std::byte const* slab, std::byte* buffer, std::size_t bytes) {
          std::memcpy(buffer, slab, bytes);
        });
  }

  static void CUDART_CB scatter(void* self) noexcept {
    static_cast<StagedMoves const*>(self)->for_each_part(
        [](std::byte* slab, std::byte const* buffer, std::size_t bytes) {
          std::memcpy(slab, buffer, bytes);
        });
  }

  TierGeometry geometry_;
  std::vector<std::byte*> const* slabs_;
  std::uint32_t capacity_;
  PinnedArray<std::byte> buffer_;
};

}  // namespace kvfreeze::gpu::detail
