#pragma once

/// @file
/// @brief The logits that a lane's recall goes by: of digests and, behind them, of the rows that no
/// digest holds yet.

#include <kvfreeze/gpu/detail/digest_scan_kernels.cuh>
#include <kvfreeze/gpu/detail/exact_logits_kernels.cuh>
#include <kvfreeze/gpu/detail/logit_tiles.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A lane's logits, by all of its blocks, each of which has a part.
/// @tparam Dim slot dimension of the exact rows
template <class C, int Dim>
class RecallLogits {
  using Digest = typename C::Digest;
  using Tiles = LogitTiles<typename LayerStep<C>::Lane, Dim>;

 public:
  /// What the block keeps in shared memory.
  struct Storage {
    typename LayerStep<C>::Lane tail;
    DigestLane digests;
  };

  /// Shared memory of a block beside, in bytes.
  static constexpr std::size_t shared_bytes(int group, int dim) {
    std::size_t const scan = digest_scan_bytes<Digest>(rank_warps, scanned_pairs<C>(group), dim);
    return scan > Tiles::Sizes::ring_bytes ? scan : Tiles::Sizes::ring_bytes;
  }

  __device__ RecallLogits(LayerStep<C> const& step, LogitArguments const& arguments,
                          LanePlace const& place, Storage& storage, std::byte* memory)
      : step_(step), a_(arguments), place_(place), s_(storage), memory_(memory) {}

  /// By all threads.
  __device__ void run() const {
    int const kv_heads = C::by_layer ? step_.heads : 1;
#pragma unroll 1
    for (int kv_head = 0; kv_head < kv_heads; ++kv_head) {
      int const numbered = place_.lane * kv_heads + kv_head;
      __syncthreads();  // all are done with the KV head before
      if (threadIdx.x == 0) {
        s_.digests = step_.scans[numbered];
        s_.tail = step_.tails[numbered];
      }
      __syncthreads();
      with_scanned_pairs<C>(a_.group, [&]<int Pairs>() { scan<Pairs>(); });
      __syncthreads();
      tail(numbered);
    }
  }

 private:
  template <int Pairs>
  __device__ __forceinline__ void scan() const {
    auto const blocks = static_cast<unsigned>(place_.blocks);
    unsigned const first = static_cast<unsigned>(place_.block) * rank_warps + warp_index();
    NoScanNote note;
    scan_groups<Digest, Pairs>(s_.digests, first, s_.digests.count, blocks * rank_warps, memory_,
                               a_.group, a_.dim, note);
  }

  __device__ __forceinline__ void tail(int numbered) const {
    std::uint32_t const rows = step_.ranked_rows[numbered];
    float const* const q =
        a_.q + static_cast<std::size_t>(numbered) * static_cast<std::size_t>(a_.group * a_.dim);
    for_each_pass<Tiles>(
        a_, place_, rows, [&](AttentionWarp const& warp, std::uint32_t begin, std::uint32_t end) {
          store_logits<Tiles>(s_.tail, a_, warp, q, memory_, begin, end, rows, NoLogitNote{});
        });
  }

  LayerStep<C> const& step_;
  LogitArguments const& a_;
  LanePlace const& place_;
  Storage& s_;
  std::byte* memory_;
};

}  // namespace kvfreeze::gpu::detail
