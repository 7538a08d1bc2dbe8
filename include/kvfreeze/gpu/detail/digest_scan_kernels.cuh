#pragma once

#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/detail/key_digests.cuh>
#include <kvfreeze/gpu/detail/warp_scan.cuh>
#include <kvfreeze/gpu/digest_lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int most_scan_threads = 256;

/// Pairs of heads that a scan works on together: of a KV head's, or of the most that C's layout
/// says there are, so that a kernel has one scan.
template <class C>
KVFREEZE_HD constexpr int scanned_pairs(int heads) {
  int const most = C::max_group == 0 ? heads : C::max_group;
  return most <= 2 ? 1 : most <= 4 ? 2 : 4;
}

/// Calls f.template operator()<scanned_pairs<C>(heads)>().
template <class C, class F>
__device__ __forceinline__ void with_scanned_pairs(int heads, F const& f) {
  if constexpr (C::max_group > 0) {
    f.template operator()<scanned_pairs<C>(C::max_group)>();
  } else if (heads <= 2) {
    f.template operator()<1>();
  } else if (heads <= 4) {
    f.template operator()<2>();
  } else {
    f.template operator()<4>();
  }
}

/// @brief Scans groups of a lane by a block, a warp a group at a time: every `step`th from the
/// warp's `first` one on, below `end`, of which a caller in need of registers has shared memory.
/// @tparam Pairs of heads at a time: 1, 2 or 4
/// @param memory shared, digest_scan_bytes() of it
/// @param note the thread's, as NoScanNote
template <class Digest, int Pairs, class Note>
__device__ void scan_groups(DigestLane const& lane, unsigned first, unsigned const& end,
                            unsigned step, std::byte* memory, int heads, int dim, Note& note) {
  using Scan = WarpScan<Digest>;
  auto* const queries = reinterpret_cast<float*>(memory);
  std::byte* const own =
      memory + 8 * Pairs * query_line(dim) + warp_index() * static_cast<unsigned>(Scan::bytes(dim));
  for (int head = 0; head < heads; head += 2 * Pairs) {
    int const some = min(heads - head, 2 * Pairs);
    if (head > 0) {
      __syncthreads();  // the heads before are done
    }
    stage_queries(global(lane.query) + static_cast<std::ptrdiff_t>(head) * dim, some, 2 * Pairs,
                  dim, queries);
    __syncthreads();
    for (unsigned group = first; group < end; group += step) {
      if (lane.awake == nullptr || global(lane.awake)[group] != 0) {
        std::uint32_t const row = group * static_cast<std::uint32_t>(Digest::group_rows);
        note.group(row, head);
        float* const logits =
            global(lane.logits) + static_cast<std::ptrdiff_t>(head) * lane.stride + row;
        Scan::template scan<Pairs>(own, queries, some, dim, global(lane.groups).at(group), logits,
                                   lane.stride, note);
      }
    }
    note.template close<Scan>(head, some);
  }
}

/// @brief Scans the groups of lanes: a block a chunk of one lane's groups, a warp a group at a
/// time.
/// @tparam Pairs of heads at a time: 1, 2 or 4
/// @param lanes null: `only` is the one lane
/// @param chunks blocks of a lane
template <class Digest, int Pairs>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    most_scan_threads, 4) void digest_scan_kernel(DigestLane const* lanes, DigestLane only,
                                                  unsigned chunks, unsigned groups_per_block,
                                                  int heads, int dim) {
  extern __shared__ __align__(16) std::byte digest_scan_memory[];
  DigestLane const lane = lanes != nullptr ? lanes[blockIdx.x / chunks] : only;
  unsigned const first = blockIdx.x % chunks * groups_per_block;
  if (first >= lane.count) {
    return;
  }
  NoScanNote note;
  unsigned const end = min(first + groups_per_block, lane.count);
  scan_groups<Digest, Pairs>(lane, first + warp_index(), end, blockDim.x / 32, digest_scan_memory,
                             heads, dim, note);
}

/// Shared memory of a block.
template <class Digest>
KVFREEZE_HD constexpr std::size_t digest_scan_bytes(int warps, int pairs, int dim) {
  return static_cast<std::size_t>(8 * pairs * query_line(dim) +
                                  warps * WarpScan<Digest>::bytes(dim));
}

}  // namespace kvfreeze::gpu::detail
