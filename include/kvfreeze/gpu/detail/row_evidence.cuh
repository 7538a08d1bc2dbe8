#pragma once

/// @file
/// @brief What scorers are told of a row, and what they keep of it.

#include <kvfreeze/element.hpp>
#include <kvfreeze/evidence.hpp>
#include <kvfreeze/gpu/detail/element_loads.cuh>
#include <kvfreeze/gpu/detail/step.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

/// Evidence of a granule, as far as its position tells it.
template <class C>
__device__ RowEvidence evidence_of(LaneRef<C> const& ref, std::uint32_t granule,
                                   std::uint32_t step) {
  RowEvidence row;
  row.position = static_cast<std::int32_t>(granule) * C::page;
  row.age = ref.lane->rows - 1 - row.position;
  row.step = step;
  return row;
}

/// @brief Evidence of an exact row as its record keeps it. @see host::recorded_evidence
template <class C>
__device__ RowEvidence recorded_evidence(LaneRef<C> const& ref, host::SlotRecord const& record,
                                         std::uint32_t step) {
  RowEvidence row = evidence_of(ref, record.granule, step);
  float const value = to_float(BFloat16{record.value});
  row.mass = C::needs_mass ? value : 0.0F;
  row.mean_abs_dot = C::needs_queries ? value : 0.0F;
  row.key_norm = C::needs_norms ? value : 0.0F;
  return row;
}

/// A mass of 1, from its units.
__device__ inline float mass_of(Mass mass) { return __fmul_rn(static_cast<float>(mass), 0x1p-30F); }

/// The scorer's memory of a row takes this step's evidence in.
template <class C>
__device__ void update_score(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                             std::uint32_t granule, RowEvidence const& row) {
  if constexpr (C::has_state) {
    scorer.update(ref.scores[granule], row);
  }
}

/// The same of evidence that is a mass.
template <class C>
__device__ void update_score(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                             std::uint32_t granule, std::uint32_t step, Mass mass) {
  RowEvidence row = evidence_of(ref, granule, step);
  row.mass = mass_of(mass);
  update_score(ref, scorer, granule, row);
}

/// A row's score by its evidence.
template <class C>
__device__ float score_by(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                          RowEvidence const& row, std::uint32_t granule) {
  if constexpr (C::has_state) {
    return scorer.score(ref.scores[granule], row);
  } else {
    return scorer.score({}, row);
  }
}

/// A row's score from what is kept of it.
template <class C>
__device__ float score_of(LaneRef<C> const& ref, typename C::Scorer const& scorer,
                          host::SlotRecord const& record, std::uint32_t step) {
  return score_by(ref, scorer, recorded_evidence(ref, record, step), record.granule);
}

/// @brief Writes the mean norm of the keys of a slot's rows and KV heads into its record. By one
/// warp, both of whose halves do the same. @see host::note_key_norm
template <class C>
__device__ void note_key_norm(LaneRef<C> const& ref, std::uint32_t slot) {
  auto const thread = static_cast<int>(threadIdx.x) % 32;
  Geometry const& g = *ref.geometry;
  float sum = 0.0F;
  int const rows = C::page == 1 ? 1 : ref.rows_of(ref.record(slot).granule);
  for (int first = 0; first < rows * g.row_elements; first += g.head_dim) {
    float x = 0.0F;
    for (int at = thread % 16; at < g.head_dim; at += 16) {
      float const k = widened(ref.k(slot)[first + at]);
      x = __fmaf_rn(k, k, x);
    }
#pragma unroll
    for (int distance = 8; distance > 0; distance /= 2) {
      x = __fadd_rn(x, __shfl_xor_sync(0xFFFFFFFFU, x, distance));
    }
    sum = __fadd_rn(sum, __fsqrt_rn(x));
  }
  if (thread == 0) {
    float const mean = __fdiv_rn(sum, static_cast<float>(rows * g.heads_per_lane));
    ref.record(slot).value = from_float<BFloat16>(mean).bits;
  }
}

/// @brief The memory of a scorer that goes by keys, or by positions alone, takes the exact rows'
/// evidence in. Lanes along y. @see host::observe_logits
template <class C, int Threads>
__global__ __attribute__((visibility("hidden"))) __launch_bounds__(Threads) void note_rows_kernel(
    Geometry g, CacheMemory memory, LayerStep<C> s, typename C::Scorer scorer) {
  WorkLane const where(g, s, static_cast<int>(blockIdx.y));
  LaneRef<C> const ref(g, memory, where.sequence, where.lane);
  int const first = static_cast<int>(blockIdx.x * Threads + threadIdx.x);
  for (int i = first; i < ref.lane->slots; i += static_cast<int>(gridDim.x) * Threads) {
    host::SlotRecord const record = ref.record(static_cast<std::uint32_t>(i));
    update_score(ref, scorer, record.granule, recorded_evidence(ref, record, where.step));
  }
}

}  // namespace kvfreeze::gpu::detail
