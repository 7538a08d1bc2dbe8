#pragma once

#include <kvfreeze/gpu/detail/global_memory.cuh>
#include <kvfreeze/gpu/detail/warp_refine.cuh>
#include <kvfreeze/gpu/refine_lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

inline constexpr int most_refine_threads = 128;

/// Shared memory of a block.
template <class Digest, int Residual>
constexpr std::size_t refine_bytes(int warps, int dim) {
  using Refine = WarpRefine<Digest, Residual>;
  return static_cast<std::size_t>(4 * Refine::heads * query_line(dim) + warps * Refine::bytes(dim));
}

/// Logits are stored and nothing else.
struct NoRefineNote {
  __device__ void operator()(int, float) const {}
};

/// @brief Up to 32 rows of a lane, by a warp.
template <class Digest, int Residual>
class RowsToRefine {
  using Refine = WarpRefine<Digest, Residual>;

 public:
  /// @param memory the warp's, Refine::bytes(dim) of it
  /// @param first row of the pool; those up to `count` rows on that there are
  __device__ RowsToRefine(RefineLane const& lane, std::byte* memory, unsigned first, int dim)
      : lane_(lane),
        refine_(memory, dim),
        count_(first < lane.count ? static_cast<int>(min(lane.count - first, 32U)) : 0),
        row_(count_ != 0 ? first + min(threadIdx.x % 32, static_cast<unsigned>(count_) - 1) : 0),
        number_(global(lane.rows)[row_]) {
    if (count_ != 0) {
      CodePages const residuals = global(lane.residuals);
      refine_.stage(count_, [&](int i) { return residuals.at(first + static_cast<unsigned>(i)); });
    }
  }

  /// @brief Under `some` heads from `head` on.
  /// @param queries shared memory as stage_queries() fills it
  template <class Note>
  __device__ void run(float const* queries, int head, int some, Note const& note) const {
    if (count_ == 0) {
      return;
    }
    CodePages const groups = global(lane_.groups);
    float* const logits =
        global(lane_.logits) + static_cast<std::ptrdiff_t>(head) * lane_.stride + row_;
    bool const gathers = lane_.screen != nullptr;
    float const* const from =
        gathers ? global(lane_.screen) + static_cast<std::ptrdiff_t>(head) * lane_.screen_stride +
                      number_
                : logits;
    refine_.refine(
        queries, some, number_, count_, [&](std::uint32_t group) { return groups.at(group); }, from,
        gathers ? lane_.screen_stride : lane_.stride, logits, lane_.stride, note);
  }

 private:
  RefineLane const& lane_;
  Refine refine_;
  int count_;
  unsigned row_;
  std::uint32_t number_;
};

/// @brief Refines the pooled rows of lanes, 32 rows of one lane a warp.
/// @param lanes null: `only` is the one lane
/// @param chunks blocks of a lane
template <class Digest, int Residual>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    most_refine_threads) void refine_kernel(RefineLane const* lanes, RefineLane only,
                                            unsigned chunks, int heads, int dim) {
  using Refine = WarpRefine<Digest, Residual>;
  extern __shared__ __align__(16) std::byte refine_memory[];
  RefineLane const lane = lanes != nullptr ? lanes[blockIdx.x / chunks] : only;
  unsigned const begin = blockIdx.x % chunks * blockDim.x;
  if (begin >= lane.count) {
    return;
  }
  auto* const queries = reinterpret_cast<float*>(refine_memory);
  RowsToRefine<Digest, Residual> const rows(
      lane,
      refine_memory + 4 * Refine::heads * query_line(dim) +
          warp_index() * static_cast<unsigned>(Refine::bytes(dim)),
      begin + 32 * warp_index(), dim);
  for (int head = 0; head < heads; head += Refine::heads) {
    int const some = min(heads - head, Refine::heads);
    if (head > 0) {
      __syncthreads();  // the heads before are done
    }
    stage_queries(global(lane.query) + static_cast<std::ptrdiff_t>(head) * dim, some, Refine::heads,
                  dim, queries);
    __syncthreads();
    rows.run(queries, head, some, NoRefineNote{});
  }
}

}  // namespace kvfreeze::gpu::detail
