#pragma once

/// @file
/// @brief Attention of one query token for each lane of a batch, split over the context.
///
/// Blocks take equal numbers of tiles (tile_walk.cuh). Within a block every warp has tiles of its
/// own and a softmax of its own; where a lane has more than four query heads, 2, 4 or 8 warps form
/// a team that shares tiles, four heads each. Tiles are copied to shared memory one or more ahead
/// of the arithmetic. At the end of a lane's part the warps' sums are added up. A lane that is not
/// within one block leaves partial sums in the workspace; the last of its blocks to finish adds
/// them, always in the order of the context, so that a batch gives the same bits again.

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/detail/attention_runs.cuh>
#include <kvfreeze/gpu/detail/attention_sums.cuh>
#include <kvfreeze/gpu/detail/exp2.cuh>
#include <kvfreeze/gpu/detail/row_codes.cuh>
#include <kvfreeze/gpu/detail/tile_walk.cuh>
#include <kvfreeze/host/kernels/masses.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kvfreeze::gpu::detail {

/// What a launch is told. Heads of a lane are worked on `heads` at a time, in gridDim.y passes.
struct DecodeArguments {
  int group = 1;        ///< query heads of a lane
  int heads = 1;        ///< of a pass, at most
  int head_groups = 1;  ///< warps that share tiles: 1, 2, 4 or 8
  int dim = 0;
  float octaves = 1.0F;
  bool compact_only = false;
  float const* q = nullptr;          ///< [lanes][group][dim]
  float* out = nullptr;              ///< [lanes][group][dim]
  float* lse = nullptr;              ///< [lanes][group], or null
  std::uint32_t* tickets = nullptr;  ///< [passes][lanes], zeros
  float2* partial_sums = nullptr;    ///< [passes][blocks][2][heads]: largest logit, sum of weights
  float* partial_outs = nullptr;     ///< [passes][blocks][2][heads][dim]
  CodeLevels tables;
};

/// @brief A block's shared memory, followed by float[heads][dim], the lane's sums.
template <class Lane, class Tiles>
struct DecodeStorage {
  using Sizes = typename Tiles::Sizes;

  alignas(16) std::byte ring[Sizes::ring_bytes];  ///< [stage][warp] slots; then the warps' sums
  float4 weights[Sizes::warps][Tiles::weight_rows];
  float warp_max[Sizes::warps][warp_heads];
  float warp_sum[Sizes::warps][warp_heads];
  float max[Sizes::most_heads];   ///< of the lane so far, octaves
  float sum[Sizes::most_heads];   ///< weights relative to it
  float keep[Sizes::most_heads];  ///< factors of the lane's sums,
  float take[Sizes::most_heads];  ///< of what is added,
  float mean[Sizes::most_heads];  ///< and of the mean value
  typename TileWalk<Sizes::threads>::Storage walk;
  TileCuts cuts;
  std::uint32_t begin;  ///< the block's tiles: here, so that no registers hold them
  std::uint32_t end;
  Lane lane;
  alignas(CodeLevels::alignment) CodeLevels tables;
  bool last;
};

/// Bytes of dynamic shared memory.
template <class Lane, int Dim>
std::size_t decode_shared_bytes(int heads, int dim) {
  return sizeof(DecodeStorage<Lane, AttentionRuns<Lane, Dim>>) +
         static_cast<std::size_t>(heads) * static_cast<std::size_t>(dim) * sizeof(float);
}

/// @brief A block at work on its tiles.
template <class Lanes, int Dim>
class DecodeBlock {
  using Lane = typename Lanes::Lane;
  using T = typename Lane::Value;
  using Tiles = AttentionRuns<Lane, Dim>;
  using Sizes = typename Tiles::Sizes;
  using Storage = DecodeStorage<Lane, Tiles>;
  static constexpr unsigned warps = Sizes::warps;
  static constexpr unsigned threads = Sizes::threads;
  static constexpr int exact_runs = Lane::levels > 0 ? 2 : 1;

 public:
  __device__ DecodeBlock(Lanes const& lanes, DecodeArguments const& a, Storage& storage)
      : lanes_(lanes),
        a_(a),
        s_(storage),
        lane_sums_(reinterpret_cast<float*>(&storage + 1)),
        place_(a.group, a.heads, a.head_groups, static_cast<int>(blockIdx.y)) {
    if (Lane::levels > 0 && threadIdx.x < 16) {
      s_.tables.four[threadIdx.x] = a.tables.four[threadIdx.x];
      s_.tables.two[threadIdx.x] = a.tables.two[threadIdx.x];
    }
  }

  __device__ void run() {
    auto const tiles = [&](std::uint32_t lane) {
      return max(tiles_of(lane, std::make_integer_sequence<int, Tiles::runs>{}), 1U);
    };
    TileWalk<Sizes::threads> const walk(s_.walk, static_cast<std::uint32_t>(lanes_.size()), warps,
                                        tiles);
    if (threadIdx.x == 0) {
      s_.cuts = walk.cuts;
      s_.begin = walk.begin;
      s_.end = walk.end;
    }
    lane_ = walk.lane;
    std::uint32_t lane_begin = walk.lane_begin;
    __syncthreads();
    while (lane_begin < s_.end) {
      std::uint32_t const lane_end = lane_begin + tiles(lane_);
      take_lane(lane_begin);
      if (lane_begin >= s_.begin && lane_end <= s_.end) {
        finish();
      } else {
        leave_partial(lane_begin, lane_end);
      }
      lane_begin = lane_end;
      ++lane_;
    }
  }

 private:
  template <int... Runs>
  __device__ std::uint32_t tiles_of(std::uint32_t lane, std::integer_sequence<int, Runs...>) const {
    return (run_tiles<Runs>(lane) + ... + 0U);
  }

  template <int Run>
  __device__ std::uint32_t run_tiles(std::uint32_t lane) const {
    std::uint32_t const rows = Tiles::template rows<Run>(lanes_, lane, a_.compact_only);
    return (rows + Tiles::template tile_rows<Run> - 1) / Tiles::template tile_rows<Run>;
  }

  /// The block's part of a lane, into the lane's sums.
  __device__ void take_lane(std::uint32_t lane_begin) {
    if (threadIdx.x == 0) {
      s_.lane = lanes_.lane(lane_);
    }
    if (threadIdx.x < Sizes::most_heads) {
      s_.max[threadIdx.x] = lowest_logit();
      s_.sum[threadIdx.x] = 0.0F;
    }
    __syncthreads();
    // Runs of one frame share their sums: exact rows, then compact ones.
    std::uint32_t run_begin = lane_begin;
    AttentionSums<typename Tiles::Exact::Sums> exact;
    bool const some = take_runs<0>(exact, run_begin, std::make_integer_sequence<int, exact_runs>{});
    if (some) {
      add_warps<typename Tiles::Exact>(exact);
    }
    if constexpr (Lane::levels > 0) {
      AttentionSums<CodeSums<Dim>> compact;
      if (take_runs<exact_runs>(compact, run_begin,
                                std::make_integer_sequence<int, Lane::levels>{})) {
        add_warps<CodedRows<Tiles::template bits<exact_runs>(), Dim>>(compact);
      }
    }
  }

  /// @return whether the block has tiles of these runs
  template <int First, class Values, int... Runs>
  __device__ bool take_runs(AttentionSums<Values>& sums, std::uint32_t& run_begin,
                            std::integer_sequence<int, Runs...>) {
    bool some = false;
    ((some = take_run<First + Runs>(sums, run_begin) || some), ...);
    return some;
  }

  template <int Run, class Values>
  __device__ bool take_run(AttentionSums<Values>& sums, std::uint32_t& run_begin) {
    std::uint32_t const first = run_begin;
    run_begin += run_tiles<Run>(lane_);
    std::uint32_t const from = max(s_.begin, first);
    std::uint32_t const to = min(s_.end, run_begin);
    if (from >= to) {
      return false;
    }
    std::uint32_t const rows = Tiles::template rows<Run>(lanes_, lane_, a_.compact_only);
    if constexpr (Run == 0) {
      std::uint32_t known = 0;
      if constexpr (Lane::levels > 0) {
        known = lanes_.rows(1, lane_);
      }
      float const* const q =
          a_.q + (static_cast<std::size_t>(lane_) * static_cast<std::size_t>(a_.group) +
                  place_.heads.first) *
                     static_cast<std::size_t>(a_.dim);
      take_rows(typename Tiles::Exact(s_.lane, known, q, place_.heads, a_.dim, a_.octaves), sums,
                from - first, to - first, rows);
    } else if constexpr (Run == 1) {
      take_rows(typename Tiles::Known(s_.lane, place_.heads, a_.dim), sums, from - first,
                to - first, rows);
    } else {
      take_rows(CodedRows<Tiles::template bits<Run>(), Dim>(s_.lane.codes[Run - exact_runs],
                                                            s_.tables, place_.heads, a_.dim),
                sums, from - first, to - first, rows);
    }
    return true;
  }

  template <RowSource Source>
  __device__ void take_rows(Source const& source, AttentionSums<typename Source::Sums>& sums,
                            std::uint32_t from, std::uint32_t to, std::uint32_t rows) {
    float4* const weights = s_.weights[place_.warp];
    for_each_tile<Sizes>(
        source, place_, s_.ring, from, to, rows,
        [&](std::byte const* slot, TileSpan tile, typename Source::Given const& given) {
          sums.take(source, slot, tile, given, place_.heads.count, weights);
        });
  }

  /// The warps' sums into the lane's.
  template <class Source, class Values>
  __device__ void add_warps(AttentionSums<Values>& sums) {
    unsigned const t = warp_thread();
#pragma unroll
    for (int distance = warp_heads; distance < 32; distance *= 2) {
      sums.sum += __shfl_xor_sync(0xFFFFFFFFU, sums.sum, distance);
    }
    if (t < warp_heads) {
      s_.warp_max[place_.warp][t] = sums.max;
      s_.warp_sum[place_.warp][t] = sums.sum;
    }
    __syncthreads();  // nobody reads the ring any more
    float const top = team_max(place_.warp - place_.first_warp, t % warp_heads);
    float const factor = attention_exp2(sums.max - (top > lowest_logit() ? top : 0.0F));
    auto* const parts = reinterpret_cast<float(*)[warp_heads][Dim]>(s_.ring);
    sums.values.scale(factor);
    sums.values.template store<Source>(parts[place_.warp]);
    if (threadIdx.x < static_cast<unsigned>(place_.pass_heads)) {
      weigh_part(threadIdx.x);
    }
    __syncthreads();
    if constexpr (Source::relative) {
      add_rotated(parts);
    } else {
      add_parts(parts);
    }
    __syncthreads();
  }

  __device__ float team_max(unsigned head_group, unsigned head) const {
    float top = lowest_logit();
    for (unsigned warp = head_group; warp < warps; warp += place_.team_warps) {
      top = fmaxf(top, s_.warp_max[warp][head]);
    }
    return top;
  }

  /// How the lane's sums so far and the part that is added weigh, by the thread of the head.
  __device__ void weigh_part(unsigned head) {
    unsigned const head_group = head / static_cast<unsigned>(place_.warp_share);
    unsigned const within = head % static_cast<unsigned>(place_.warp_share);
    float const top = team_max(head_group, within);
    float const origin = top > lowest_logit() ? top : 0.0F;
    float sum = 0.0F;
    for (unsigned warp = head_group; warp < warps; warp += place_.team_warps) {
      sum += attention_exp2(s_.warp_max[warp][within] - origin) * s_.warp_sum[warp][within];
    }
    float const before = s_.max[head];
    float const both = fmaxf(before, top);
    float const shift = both > lowest_logit() ? both : 0.0F;
    float const keep = attention_exp2(before - shift);
    float const take = attention_exp2(top - shift);
    s_.keep[head] = keep;
    s_.take[head] = take;
    s_.mean[head] = sum * take;
    s_.max[head] = both;
    s_.sum[head] = s_.sum[head] * keep + sum * take;
  }

  /// One channel of a head, summed over the teams.
  __device__ float team_sum(float (*parts)[warp_heads][Dim], unsigned head,
                            unsigned channel) const {
    unsigned const head_group = head / static_cast<unsigned>(place_.warp_share);
    unsigned const within = head % static_cast<unsigned>(place_.warp_share);
    float sum = 0.0F;
    for (unsigned warp = head_group; warp < warps; warp += place_.team_warps) {
      sum += parts[warp][within][channel];
    }
    return sum;
  }

  __device__ float kept(unsigned head, unsigned channel) const {
    float const keep = s_.keep[head];  // 0: there are no sums yet
    return keep > 0.0F ? lane_sums_[head * static_cast<unsigned>(a_.dim) + channel] * keep : 0.0F;
  }

  /// Calls f(head, channel) for all of the pass, in parallel.
  template <class F>
  __device__ void for_each_channel(F const& f) const {
    auto const dim = static_cast<unsigned>(a_.dim);
    unsigned const count = static_cast<unsigned>(place_.pass_heads) * dim;
    for (unsigned i = threadIdx.x; i < count; i += threads) {
      unsigned const head = i / dim;
      f(head, i - head * dim);
    }
  }

  __device__ void add_parts(float (*parts)[warp_heads][Dim]) {
    for_each_channel([&](unsigned head, unsigned channel) {
      lane_sums_[head * static_cast<unsigned>(a_.dim) + channel] =
          __fmaf_rn(s_.take[head], team_sum(parts, head, channel), kept(head, channel));
    });
  }

  /// Rotates what is added, and adds the mean value. The halves of a warp have 64 channels of two
  /// heads.
  __device__ void add_rotated(float (*parts)[warp_heads][Dim]) {
    auto const dim = static_cast<unsigned>(a_.dim);
    auto const heads = static_cast<unsigned>(place_.pass_heads);
    unsigned const pairs = (heads + 1) / 2;
    unsigned const units = (dim + 63) / 64 * pairs;
    unsigned const t = warp_thread() % 16;
    for (unsigned unit = place_.warp; unit < units; unit += warps) {
      unsigned const begin = unit / pairs * 64;
      unsigned const head = 2 * (unit % pairs) + warp_thread() / 16;
      float x[4];
#pragma unroll
      for (unsigned v = 0; v < 4; ++v) {
        unsigned const channel = begin + 16 * v + t;
        x[v] = head < heads && channel < dim ? team_sum(parts, head, channel) : 0.0F;
      }
      rotate_64(x, static_cast<int>(dim - begin), static_cast<int>(t));
#pragma unroll
      for (unsigned v = 0; v < 4; ++v) {
        unsigned const channel = begin + 16 * v + t;
        if (head < heads && channel < dim) {
          lane_sums_[head * dim + channel] =
              __fmaf_rn(s_.mean[head], s_.lane.means[channel],
                        __fmaf_rn(s_.take[head], x[v], kept(head, channel)));
        }
      }
    }
  }

  /// @brief The lane's sums become its output.
  __device__ void finish() {
    Lane const& lane = s_.lane;
    std::size_t const first =
        static_cast<std::size_t>(lane_) * static_cast<std::size_t>(a_.group) +
        static_cast<std::size_t>(blockIdx.y) * static_cast<std::size_t>(a_.heads);
    if (threadIdx.x < static_cast<unsigned>(place_.pass_heads)) {
      unsigned const head = threadIdx.x;
      float max = s_.max[head];
      float sum = s_.sum[head];
      float keep = 1.0F;
      float mean = 0.0F;
      if constexpr (Lane::levels > 0) {
        if (lane.absent != nullptr && !a_.compact_only) {
          unsigned const of_lane = blockIdx.y * static_cast<unsigned>(a_.heads) + head;
          constexpr float unit = 1.0F / (1 << host::kernels::weight_bits);
          float const weight = lane.absent[of_lane] * unit;
          if (weight > 0.0F) {
            float const both = fmaxf(max, lane.highest[of_lane]);
            keep = attention_exp2(max - both);
            mean = attention_exp2(lane.highest[of_lane] - both) * weight;
            max = both;
            sum = sum * keep + mean;
          }
        }
      }
      float const inverse = sum > 0.0F ? __fdiv_rn(1.0F, sum) : 0.0F;
      s_.keep[head] = keep * inverse;
      s_.mean[head] = mean * inverse;
      if (a_.lse != nullptr) {
        constexpr float ln2 = 0.693147182F;
        a_.lse[first + head] = sum > 0.0F ? (max + log2f(sum)) * ln2 : lowest_logit();
      }
    }
    __syncthreads();
    float* const out = a_.out + first * static_cast<std::size_t>(a_.dim);
    for_each_channel([&](unsigned head, unsigned channel) {
      float x = kept(head, channel);
      if constexpr (Lane::levels > 0) {
        float const mean = s_.mean[head];
        x = mean > 0.0F ? __fmaf_rn(mean, lane.means[channel], x) : x;
      }
      out[head * static_cast<unsigned>(a_.dim) + channel] = x;
    });
    __syncthreads();
  }

  /// Where partial sums of a block lie: of the lane that began before it, of the one that began
  /// within it.
  __device__ std::size_t partial(std::uint32_t block, bool began) const {
    return (static_cast<std::size_t>(blockIdx.y) * gridDim.x + block) * 2 + (began ? 1 : 0);
  }

  /// The lane's sums go to the workspace; the last block of the lane adds all of them.
  __device__ void leave_partial(std::uint32_t lane_begin, std::uint32_t lane_end) {
    auto const heads = static_cast<std::size_t>(a_.heads);
    auto const dim = static_cast<unsigned>(a_.dim);
    std::size_t const at = partial(blockIdx.x, lane_begin >= s_.begin);
    if (threadIdx.x < static_cast<unsigned>(place_.pass_heads)) {
      a_.partial_sums[at * heads + threadIdx.x] = float2{s_.max[threadIdx.x], s_.sum[threadIdx.x]};
    }
    unsigned const count = static_cast<unsigned>(place_.pass_heads) * dim;
    float* const to = a_.partial_outs + at * heads * dim;
    for (unsigned i = 4 * threadIdx.x; i < count; i += 4 * threads) {
      *reinterpret_cast<float4*>(to + i) = *reinterpret_cast<float4 const*>(lane_sums_ + i);
    }
    std::uint32_t const first = s_.cuts.block_of(lane_begin);
    std::uint32_t const last = s_.cuts.block_of(lane_end - 1);
    __syncthreads();
    if (threadIdx.x == 0) {
      std::uint32_t* const ticket =
          a_.tickets + static_cast<std::size_t>(blockIdx.y) * lanes_.size() + lane_;
      __threadfence();
      s_.last = atomicAdd(ticket, 1U) == last - first;
      __threadfence();
      if (s_.last) {
        *ticket = 0;  // for the next launch
      }
    }
    __syncthreads();
    if (s_.last) {
      add_partials(first, last + 1);
      finish();
    }
  }

  /// Partial sums of blocks [first, end) of a lane, in this order, into the lane's sums. The lane
  /// began within the first of them.
  __device__ void add_partials(std::uint32_t first, std::uint32_t end) {
    auto const heads = static_cast<unsigned>(place_.pass_heads);
    auto const dim = static_cast<unsigned>(a_.dim);
    auto const stride = static_cast<std::size_t>(a_.heads);
    std::uint32_t const count = end - first;
    auto const sums_at = [&](std::uint32_t i, unsigned head) {
      return __ldcg(a_.partial_sums + partial(first + i, i == 0) * stride + head);
    };
    for (unsigned head = place_.warp; head < heads; head += warps) {
      float top = lowest_logit();
      float sum = 0.0F;
      auto const take = [&](float2 part) {
        float const both = fmaxf(top, part.x);
        float const origin = both > lowest_logit() ? both : 0.0F;
        sum = sum * attention_exp2(top - origin) + part.y * attention_exp2(part.x - origin);
        top = both;
      };
      for (std::uint32_t i = warp_thread(); i < count; i += 32) {
        take(sums_at(i, head));
      }
#pragma unroll
      for (int distance = 1; distance < 32; distance *= 2) {
        float const other_top = __shfl_xor_sync(0xFFFFFFFFU, top, distance);
        take(float2{other_top, __shfl_xor_sync(0xFFFFFFFFU, sum, distance)});
      }
      if (warp_thread() == 0) {
        s_.max[head] = top;
        s_.sum[head] = sum;
        s_.keep[head] = 1.0F;
      }
    }
    __syncthreads();
    // A thread has four neighbouring channels; where there are threads to spare, some of the parts.
    unsigned const quads = heads * dim / 4;
    unsigned const ways = max(threads / quads, 1U);
    unsigned const columns = min(quads, threads);
    unsigned const way = threadIdx.x / columns;
    auto* const shares = reinterpret_cast<float4*>(s_.ring);
    auto* const factors = reinterpret_cast<float*>(shares + threads);
    std::uint32_t const room = (Sizes::ring_bytes / 4 - 4 * threads) / heads;
    auto* const sums = reinterpret_cast<float4*>(lane_sums_);
    for (std::uint32_t begin = 0; begin < count; begin += room) {
      std::uint32_t const parts = min(room, count - begin);
      for (unsigned i = threadIdx.x; i < parts * heads; i += threads) {
        float const top = s_.max[i % heads];
        factors[i] = attention_exp2(sums_at(begin + i / heads, i % heads).x -
                                    (top > lowest_logit() ? top : 0.0F));
      }
      __syncthreads();
      for (unsigned quad = threadIdx.x % columns; way < ways && quad < quads; quad += columns) {
        unsigned const head = 4 * quad / dim;
        float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll 8
        for (std::uint32_t i = way; i < parts; i += ways) {
          auto const* const from = reinterpret_cast<float4 const*>(
              a_.partial_outs + partial(first + begin + i, begin + i == 0) * stride * dim);
          float4 const x = __ldcg(from + quad);
          float const f = factors[i * heads + head];
          sum.x = __fmaf_rn(f, x.x, sum.x);
          sum.y = __fmaf_rn(f, x.y, sum.y);
          sum.z = __fmaf_rn(f, x.z, sum.z);
          sum.w = __fmaf_rn(f, x.w, sum.w);
        }
        if (ways == 1) {
          sums[quad] = begin == 0 ? sum : added(sums[quad], sum);
        } else {
          shares[threadIdx.x] = sum;
        }
      }
      __syncthreads();
      if (ways > 1 && threadIdx.x < quads) {
        float4 sum = shares[threadIdx.x];
        for (unsigned i = 1; i < ways; ++i) {
          sum = added(sum, shares[i * columns + threadIdx.x]);
        }
        sums[threadIdx.x] = begin == 0 ? sum : added(sums[threadIdx.x], sum);
      }
      __syncthreads();
    }
  }

  static __device__ float4 added(float4 a, float4 b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
  }

  Lanes const& lanes_;
  DecodeArguments const& a_;
  Storage& s_;
  float* lane_sums_;  ///< [heads][dim] in shared memory
  AttentionWarp place_;
  std::uint32_t lane_ = 0;
};

template <class Lanes, int Dim>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    AttentionRuns<typename Lanes::Lane, Dim>::Sizes::threads,
    AttentionRuns<typename Lanes::Lane, Dim>::Sizes::
        blocks_per_multiprocessor) void decode_attention_kernel(__grid_constant__ Lanes const lanes,
                                                                __grid_constant__
                                                                    DecodeArguments const
                                                                        arguments) {
  extern __shared__ __align__(CodeLevels::alignment) uint4 attention_memory[];
  using Lane = typename Lanes::Lane;
  auto& storage =
      *reinterpret_cast<DecodeStorage<Lane, AttentionRuns<Lane, Dim>>*>(attention_memory);
  DecodeBlock<Lanes, Dim>(lanes, arguments, storage).run();
}

}  // namespace kvfreeze::gpu::detail
