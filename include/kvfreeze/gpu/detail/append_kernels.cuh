#pragma once

/// @file
/// @brief The newest row of each lane: written through to the tier, and with it a digest group when
/// it fills one.

#include <kvfreeze/detail/arithmetic.hpp>
#include <kvfreeze/gpu/detail/begin_recall.cuh>
#include <kvfreeze/gpu/detail/describe_lane.cuh>
#include <kvfreeze/gpu/detail/encode_kernels.cuh>
#include <kvfreeze/gpu/detail/importance_kernels.cuh>
#include <kvfreeze/gpu/detail/lane_facts.cuh>
#include <kvfreeze/gpu/detail/lane_moments.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Bits of a cache's status word: what went wrong on the device since the host asked last.
struct Status {
  static constexpr std::uint32_t not_finite = 1;  ///< K, V or Q with an infinity or NaN
  static constexpr std::uint32_t no_pages = 2;    ///< a row could not be held
  static constexpr std::uint32_t too_long = 4;    ///< a row past max_tokens
  static constexpr std::uint32_t not_begun = 8;  ///< a row of a step that the tier knows nothing of
};

/// One layer's new rows: [sequences][kv_heads][head_dim] and [sequences][query_heads][head_dim].
template <class Input>
struct NewRows {
  Input const* q = nullptr;
  Input const* k = nullptr;
  Input const* v = nullptr;
};

/// The keys that no digest holds yet, of one of the lane's KV heads.
template <class C>
struct TailKeys {
  LaneRef<C> const& ref;
  int first = 0;  ///< element of a row that is the head's first

  __device__ float operator()(int row, int d) const {
    return widened(ref.row_k_at(ref.lane->tail[row])[first + d]);
  }

  [[nodiscard]] __device__ float4 quad(int row, int quad) const {
    return load_quad(ref.row_k_at(ref.lane->tail[row]) + first + 4 * quad);
  }
};

/// What a lane counts in a step, from the beginning. By one thread.
__device__ inline void begin_lane_step(LaneState& lane) {
  lane.thawed = lane.frozen = lane.deferred = 0;
  lane.touched = lane.moved_in = lane.moved_out = 0;
  lane.missed = 0.0F;
  lane.over_cap = false;
  lane.mode = LaneMode::dense;
  lane.guests = 0;
}

/// @brief A lane's queries in octaves. By the whole block.
/// @return are those that the thread has seen finite?
template <class Input, int Threads>
__device__ bool load_queries(Geometry const& g, Input const* q, float* octaves) {
  bool finite = true;
  for (int i = static_cast<int>(threadIdx.x); i < g.lane_queries * g.head_dim; i += Threads) {
    float const x = to_float(q[i]);
    finite = finite && kvfreeze::detail::is_finite(x);
    octaves[i] = __fmul_rn(x, g.octaves);
  }
  return finite;
}

/// @brief Keeps the cosine between this step's queries and the ones before. By one warp.
/// @param octaves the lane's queries
/// @see host::note_cosine
template <class C>
__device__ void note_cosine(LaneRef<C> const& ref, float const* octaves) {
  auto const thread = static_cast<int>(threadIdx.x) % 32;
  int const n = ref.geometry->lane_queries * ref.geometry->head_dim;
  float qq = 0.0F;
  float pp = 0.0F;
  float qp = 0.0F;
  for (int at = thread % 16; at < n; at += 16) {  // the chains of host::dot, twice
    float const q = octaves[at];
    float const p = ref.previous[at];
    qq = __fmaf_rn(q, q, qq);
    pp = __fmaf_rn(p, p, pp);
    qp = __fmaf_rn(q, p, qp);
  }
#pragma unroll
  for (int distance = 8; distance > 0; distance /= 2) {
    qq = __fadd_rn(qq, __shfl_xor_sync(0xFFFFFFFFU, qq, distance));
    pp = __fadd_rn(pp, __shfl_xor_sync(0xFFFFFFFFU, pp, distance));
    qp = __fadd_rn(qp, __shfl_xor_sync(0xFFFFFFFFU, qp, distance));
  }
  for (int at = thread; at < n; at += 32) {
    ref.previous[at] = octaves[at];
  }
  if (thread == 0) {
    ref.lane->cosine = qq > 0.0F && pp > 0.0F ? __fdiv_rn(qp, __fsqrt_rn(__fmul_rn(qq, pp))) : 1.0F;
  }
}

/// @brief Begins the step of each lane of a layer: the new row, its digest group when it is full,
/// the queries in octaves, and how the step will go. One block a lane.
///
/// With a bound of four blocks no register is spilled; without one the compiler aims at 64.
template <class C, class Input, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads, 4) void append_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, typename C::Scheduler scheduler,
    NewRows<Input> rows, std::uint32_t* status) {
  using Value = typename C::Value;
  WorkLane const work(g, s, static_cast<int>(blockIdx.x));
  LaneRef<C> const ref(g, memory, work.sequence, work.lane);
  LaneState& lane = *ref.lane;
  int const thread = static_cast<int>(threadIdx.x);
  std::ptrdiff_t const in_batch = static_cast<std::ptrdiff_t>(blockIdx.x);
  Input const* const q = rows.q + in_batch * g.lane_queries * g.head_dim;
  Input const* const k = rows.k + in_batch * g.row_elements;
  Input const* const v = rows.v + in_batch * g.row_elements;
  __shared__ bool ready;
  __shared__ typename Encoder<typename C::Digest>::Storage encoder;
  auto const position = static_cast<std::uint32_t>(lane.rows);
  std::uint32_t const granule = position / C::page;
  std::uint32_t const row = position % C::page;
  auto const slot = static_cast<std::uint32_t>(lane.slots) - (row == 0 ? 0U : 1U);
  if (thread == 0) {
    begin_lane_step(lane);
    ready = lane.rows < g.max_tokens;
    if (!ready) {
      atomicOr(status, Status::too_long);
    } else if (!ref.has_room_for(granule, granule + 1)) {
      ready = false;
      atomicOr(status, Status::not_begun);
    } else if (row == 0 && !grow(ref, memory.pool, rows_segment, placed_granules<C>(lane) + 1)) {
      ready = false;
      atomicOr(status, Status::no_pages);
    } else if constexpr (C::in_place) {
      ref.list[slot] = granule;
    }
  }
  __syncthreads();
  if (!ready) {
    return;
  }
  if constexpr (C::weighs) {
    for (int d = thread; d < g.row_elements; d += Threads) {
      Input const* const channel = q + d + d / g.head_dim * (g.group - 1) * g.head_dim;
      ref.importance[d] = add_squares(ref.importance[d], channel, 1, 0, g.group, g.head_dim);
    }
  }
  std::uint32_t const seen = min(lane.mean_queries + 1U, most_mean_queries);
  if constexpr (C::rates) {
    note_query_moments<C, Input, Threads>(ref, q, seen);
  }
  float* const octaves = s.queries + in_batch * g.lane_queries * g.head_dim;
  bool finite = load_queries<Input, Threads>(g, q, octaves);
  std::ptrdiff_t const within = static_cast<std::ptrdiff_t>(row) * g.row_elements;
  Value* const row_k = ref.k(slot) + within;
  Value* const row_v = ref.v(slot) + within;
  for (int i = thread; i < g.row_elements; i += Threads) {
    float const a = to_float(k[i]);
    float const b = to_float(v[i]);
    finite = finite && kvfreeze::detail::is_finite(a) && kvfreeze::detail::is_finite(b);
    row_k[i] = from_float<Value>(a);
    row_v[i] = from_float<Value>(b);
    if constexpr (C::stores) {
      auto* const stored = reinterpret_cast<Value*>(ref.stored(granule)) + within;
      stored[i] = from_float<Value>(a);
      stored[C::page * g.row_elements + i] = from_float<Value>(b);
    }
  }
  if (!finite) {
    atomicOr(status, Status::not_finite);
  }
  __syncthreads();  // all have asked where the row goes
  if (thread == 0) {
    ref.states[granule] = ref.newborn(position);
    if (row == 0) {
      auto const before = static_cast<int>(granule);
      ref.record(slot) = {granule, newborn_stamp(ref, granule, before, work.step), 0};
      ref.plans[granule] = 0;
      lane.slots += 1;
    }
    if constexpr (C::has_digest) {
      lane.tail[position - static_cast<std::uint32_t>(ref.tail_row())] =
          ref.place(slot) * C::page + row;
    }
    lane.rows += 1;
    lane.mean_queries = seen;
    lane.moved_out = C::stores ? 2 * g.row_bytes : 0;
  }
  __syncthreads();
  if constexpr (C::needs_cosine) {
    if (thread < 32) {
      note_cosine(ref, octaves);
    }
  }
  if constexpr (C::has_digest) {
    if (lane.rows % C::Digest::group_rows == 0) {
      if (thread == 0) {
        ready = grow(ref, memory.pool, digests_segment, lane.groups + 1);
        if (!ready) {
          atomicOr(status, Status::no_pages);
        }
      }
      __syncthreads();
      if (!ready) {
        return;
      }
      if constexpr (C::has_levels) {
        if (lane.groups == 0) {
          note_means<C::Digest::group_rows, Threads>(
              [&](int i, int d) { return widened(ref.row_v_at(lane.tail[i])[d]); }, g.row_elements,
              ref.means);
        }
      }
      for (int head = 0; head < g.heads_per_lane; ++head) {
        int const first = head * g.head_dim;
        Encoder<typename C::Digest>::template encode<Threads>(
            encoder, TailKeys<C>{ref, first}, C::weighs ? ref.importance + first : nullptr,
            g.head_dim, ref.digest(static_cast<std::uint32_t>(lane.groups), head));
        __syncthreads();
      }
      if (thread == 0) {
        lane.groups += 1;
      }
      __syncthreads();
    }
  }
  if constexpr (C::has_levels) {
    if constexpr (C::sleeps) {
      if (thread == 0) {
        begin_granule(ref, granule, static_cast<int>(granule));
      }
      LaneFacts const facts = lane_facts(ref, s.layer, work.head, work.step);
      bool const everything = scheduler.recall(facts).kind == Selection::Kind::all;
      wake_due<C, Threads>(ref, everything ? 0xFFFFFFFFU : work.step);
      __syncthreads();
    }
    if (thread == 0) {
      auto const open = ref.open_range();
      LaneFacts const facts = lane_facts(ref, s.layer, work.head, work.step);
      bool const everything = scheduler.recall(facts).kind == Selection::Kind::all;
      bool const all_here = lane.slots == lane.rows;
      if (everything && open.low < open.high && lane.rows >= lane.next_look) {
        lane.mode = LaneMode::looks;
      } else if (all_here && (everything || open.low >= open.high)) {
        lane.mode = LaneMode::dense;
      } else {
        lane.mode = LaneMode::ranked;
      }
      auto const period =
          static_cast<std::uint32_t>(max(kvfreeze::detail::slow_period(scheduler), 1));
      lane.sinks = (work.step + work.lane) % period == 0;
    }
  } else {
    begin_recall<C, Threads>(ref, s, scheduler, work);
  }
  __syncthreads();
  describe_lane<C, Threads>(ref, s, static_cast<int>(blockIdx.x));
  if constexpr (C::recalls) {
    if (thread == 0) {
      describe_tail(ref, s, static_cast<int>(blockIdx.x));
    }
  }
}

}  // namespace kvfreeze::gpu::detail
