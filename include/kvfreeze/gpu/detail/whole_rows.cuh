#pragma once

/// @file
/// @brief All rows of a sequence: copied out in position order, or brought back to where they are
/// exact.

#include <kvfreeze/gpu/detail/append_kernels.cuh>
#include <kvfreeze/gpu/detail/give_way.cuh>
#include <kvfreeze/gpu/detail/lane_moves.cuh>
#include <kvfreeze/gpu/detail/thaw_lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A dense copy of a layer's rows: exact ones from their slots, the others from the tier, or
/// all from where they are.
/// Grid (any, lanes), a warp a granule.
/// @param first_lane of the launch, within the layer
/// @param k, v [rows][kv_heads][head_dim]
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void gather_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, int layer, int first_lane,
    typename C::Value* k, typename C::Value* v) {
  int const head = first_lane + static_cast<int>(blockIdx.y);
  LaneRef<C> const ref(g, memory, sequence,
                       static_cast<std::uint32_t>(layer * g.lanes_per_layer + head));
  int const warps = static_cast<int>(gridDim.x) * (Threads / 32);
  int const first =
      static_cast<int>(blockIdx.x) * (Threads / 32) + static_cast<int>(threadIdx.x) / 32;
  int const lane = static_cast<int>(threadIdx.x) % 32;
  std::ptrdiff_t const stride = static_cast<std::ptrdiff_t>(g.lanes_per_layer) * g.row_elements;
  auto const copy = [&](std::uint32_t granule, std::byte const* from_k, std::byte const* from_v) {
    for (int row = 0; row < ref.rows_of(granule); ++row) {
      std::ptrdiff_t const to = static_cast<std::ptrdiff_t>(granule * C::page + row) * stride +
                                static_cast<std::ptrdiff_t>(head) * g.row_elements;
      std::ptrdiff_t const from = static_cast<std::ptrdiff_t>(row) * g.row_bytes;
      copy_bytes(from_k + from, reinterpret_cast<std::byte*>(k + to), g.row_bytes, lane);
      copy_bytes(from_v + from, reinterpret_cast<std::byte*>(v + to), g.row_bytes, lane);
    }
  };
  if constexpr (C::in_place) {
    for (int i = first; i < ref.granules(); i += warps) {
      auto const place = static_cast<std::uint32_t>(i);
      copy(place, reinterpret_cast<std::byte const*>(ref.k_at(place)),
           reinterpret_cast<std::byte const*>(ref.v_at(place)));
    }
  } else {
    for (int i = first; i < ref.lane->slots; i += warps) {
      auto const slot = static_cast<std::uint32_t>(i);
      copy(ref.record(slot).granule, reinterpret_cast<std::byte const*>(ref.k(slot)),
           reinterpret_cast<std::byte const*>(ref.v(slot)));
    }
    for (int i = first; i < ref.granules(); i += warps) {
      if (host::GranuleState::fidelity(ref.states[i]) != Fidelity::exact) {
        auto const granule = static_cast<std::uint32_t>(i);
        copy(granule, ref.stored(granule), ref.stored(granule) + g.part_bytes);
      }
    }
  }
}

/// @brief Codes go, their rows freeze; pages go back. One block a lane.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(
    Threads) void forget_codes_kernel(Geometry g, CacheMemory memory, std::uint32_t sequence,
                                      std::uint32_t first_lane) {
  LaneRef<C> const ref(g, memory, sequence, first_lane + blockIdx.x);
  for (int level = 0; level < C::levels; ++level) {
    drop_codes<C, Threads>(ref, level, 0);
  }
  release_pages(ref, memory.pool);
}

/// Detections of all rows are forgotten. By a block. @see host::thaw_lane
template <class C, int Threads>
__device__ void forget_counts(LaneRef<C> const& ref) {
  if constexpr (C::sleeps) {
    for (int i = static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
      ref.timers[i].count = 0;
    }
  }
}

/// @brief Makes every granule of a lane exact, slot i the i-th. One block a lane; the rows
/// themselves come by load_rows_kernel(). Without the pages for them nothing changes but the
/// status. With a discarding tier there is nothing to come back.
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void reset_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, std::uint32_t first_lane,
    std::uint32_t const* steps, std::uint32_t* status) {
  LaneRef<C> const ref(g, memory, sequence, first_lane + blockIdx.x);
  LaneState& lane = *ref.lane;
  if constexpr (C::discards) {
    forget_counts<C, Threads>(ref);
    return;
  }
  __shared__ bool ready;
  if (threadIdx.x == 0) {
    if (!C::uniform && lane.budget != no_limit) {  // the sequence fits its part of the pool
      lane.budget = max(row_pages(g, ref.granules()) + digest_pages<C>(g, lane.rows + 1),
                        floor_pages<C>(g, lane.rows));
    }
    ready = grow(ref, memory.pool, rows_segment, ref.granules());
    if (!ready) {
      atomicOr(status, Status::no_pages);
    }
  }
  __syncthreads();
  if (!ready) {
    return;
  }
  forget_counts<C, Threads>(ref);
  // What is known of exact rows goes with them, by way of the places that they will have: the keys
  // there come from the tier again.
  auto const kept = [&](std::uint32_t granule) -> host::SlotRecord& {
    return *reinterpret_cast<host::SlotRecord*>(ref.k_at(granule));
  };
  for (int i = static_cast<int>(threadIdx.x); !C::in_place && i < lane.slots; i += Threads) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
    kept(record.granule) = record;
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < ref.granules(); i += Threads) {
    auto const granule = static_cast<std::uint32_t>(i);
    bool const stays = host::GranuleState::fidelity(ref.states[i]) == Fidelity::exact;
    ref.states[i] = thawed(ref.states[i]);
    if constexpr (C::in_place) {
      ref.list[i] = granule;
    }
    if (!stays) {
      ref.record_at(granule) = {granule, static_cast<std::uint16_t>(steps[sequence]), 0};
    } else if constexpr (!C::in_place) {
      ref.record_at(granule) = kept(granule);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    lane.slots = ref.granules();
    lane.forced = lane.asleep = 0;
  }
  __syncthreads();
  find_tail<C, Threads>(ref);
}

/// The rows of lanes that reset_kernel() made whole. Grid (any, lanes).
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void load_rows_kernel(
    Geometry g, CacheMemory memory, std::uint32_t sequence, std::uint32_t first_lane) {
  __shared__ FetchStorage<C> stage;
  LaneRef<C> const ref(g, memory, sequence, first_lane + blockIdx.y);
  int const granules = ref.granules();
  if (ref.lane->slots == granules) {  // sums of exact rows are what they were
    fetch_granules<C, Threads>(ref, slots_of_block(granules), ref.lane->rows, stage);
  }
}

}  // namespace kvfreeze::gpu::detail
