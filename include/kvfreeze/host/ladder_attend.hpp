#pragma once

/// @file
/// @brief Attention over exact rows, pools and rows that were just loaded.

#include <kvfreeze/host/attend.hpp>
#include <kvfreeze/host/kernels/known_weights.hpp>
#include <kvfreeze/host/ladder_cuts.hpp>

#include <algorithm>
#include <array>

namespace kvfreeze::host {

/// @brief Adds a level's compact rows, whose weights are known, to a rotated output.
template <class C>
void add_values(LaneRef<C> const& ref, std::size_t level, int head, int rows, float* weights,
                std::ptrdiff_t stride, OnlineSoftmax const& state) noexcept {
  with_level<C>(level, [&](auto, auto bits, auto) {
    accumulate_values<bits()>(value_rows(ref, level, head), scale_rows(ref, level, head), rows,
                              weights, stride, state.heads, state.dim, state.out);
  });
}

/// Rotates the outputs of all heads, there or back.
inline void rotate_outputs(OnlineSoftmax const& state) noexcept {
  for (int h = 0; h < state.heads; ++h) {
    rotate(state.out + static_cast<std::ptrdiff_t>(h) * state.dim, state.dim);
  }
}

/// @brief Attention over what was known before anything rose, by its weights.
///
/// Values of compact rows are relative to the lane's mean value; rows that are not here count with
/// their estimated weight and that mean.
/// @param state empty before
template <class C>
void attend_ranked(LaneJob<C> const& job, LadderStep<C> const& step, OnlineSoftmax const& state,
                   int head) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  state.reset();
  std::array<float, 64> relative{};  // weights of values that are relative to the mean
  std::copy_n(step.absent + first, g.group, relative.begin());
  for (std::size_t level = 0; level < C::levels; ++level) {
    LogitRun const& run = step.runs.run[LadderRuns<C>::pools + level];
    float* const weights = run.logits + first * run.stride;
    int const rows = step.known[level] * C::page;
    for (int h = 0; h < g.group; ++h) {
      relative[static_cast<std::size_t>(h)] += take_weights(weights + h * run.stride, rows);
    }
    add_values(ref, level, head, rows, weights, run.stride, state);
  }
  rotate_outputs(state);
  float const* const means = ref.value_means() + static_cast<std::ptrdiff_t>(head) * dim;
  for (int h = 0; h < g.group; ++h) {
    float const weight = relative[static_cast<std::size_t>(h)];
    state.max[h] = step.highest[first + h];
    state.sum[h] = weight;
    add_scaled(state.out + static_cast<std::ptrdiff_t>(h) * dim, weight, means, dim);
  }
  if constexpr (C::page == 1) {
    LogitRun const& run = step.runs.run[LadderRuns<C>::exact];
    float* const weights = run.logits + first * run.stride;
    for (int h = 0; h < g.group; ++h) {
      state.sum[h] += take_weights(weights + h * run.stride, step.known_exact);
    }
    accumulate_rows(ref.row_blocks(head), step.known_exact, weights, run.stride, g.group, dim,
                    state.out);
  }
  constexpr float unit = 0x1p-24F;
  for (int h = 0; h < g.group; ++h) {
    state.sum[h] *= unit;
  }
  for (int i = 0; i < g.group * dim; ++i) {
    state.out[i] *= unit;
  }
}

/// @brief Attention over the pools by their logits, beside what `state` holds already.
template <class C>
void attend_pools(LaneJob<C> const& job, LadderRuns<C> const& runs, OnlineSoftmax const& state,
                  int head) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  float const* const means =
      ref.value_means() + static_cast<std::ptrdiff_t>(head) * g.shape.head_dim;
  for (std::size_t level = 0; level < C::levels; ++level) {
    LogitRun const& run = runs.run[LadderRuns<C>::pools + level];
    float* const logits = run.logits + first * run.stride;
    int const rows = ref.lane->pools[level].slots * C::page;
    if (rows == 0) {
      continue;
    }
    weigh(logits, run.stride, rows, state, logits);
    for (int h = 0; h < g.group; ++h) {
      float total = 0.0F;
      for (int i = 0; i < rows; i += tile_rows) {
        total += sum_floats(logits + h * run.stride + i, std::min(tile_rows, rows - i));
      }
      add_scaled(state.out + static_cast<std::ptrdiff_t>(h) * g.shape.head_dim, total, means,
                 g.shape.head_dim);
    }
    rotate_outputs(state);
    add_values(ref, level, head, rows, logits, run.stride, state);
    rotate_outputs(state);
  }
}

/// The scratch's softmax state for one KV head of the lane.
template <class C>
OnlineSoftmax head_state(LaneJob<C> const& job, int head) noexcept {
  Geometry const& g = job.geometry();
  std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
  return {g.group, g.shape.head_dim, job.scratch->max() + first, job.scratch->sum() + first,
          job.scratch->out() + first * g.shape.head_dim};
}

/// Counts the bytes that attention read: exact rows, and pools.
template <class C>
void count_attended(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  ref.lane->touched += static_cast<std::size_t>(ref.lane->exact) * g.granule_bytes();
  for (std::size_t level = 0; level < C::levels; ++level) {
    ref.lane->touched += static_cast<std::size_t>(ref.lane->pools[level].slots) *
                         g.pools[level].block_bytes / static_cast<std::size_t>(g.slots_per_block);
  }
}

/// Attention over granules that were just loaded, K and V of each one after the other.
template <class C>
void attend_loaded(LaneJob<C> const& job, std::byte const* granules, int count,
                   OnlineSoftmax const& state, int head) noexcept {
  Geometry const& g = job.geometry();
  using Value = typename C::Value;
  std::ptrdiff_t const at = static_cast<std::ptrdiff_t>(head) * g.shape.head_dim;
  std::array<Value const*, tile_rows> keys;
  std::array<Value const*, tile_rows> values;
  int n = 0;
  auto const flush = [&] {
    attend_tile(keys.data(), values.data(), n,
                job.scratch->query() + at * static_cast<std::ptrdiff_t>(g.group), state);
    n = 0;
  };
  for (int i = 0; i < count; ++i) {
    std::byte const* const granule = granules + static_cast<std::size_t>(i) * g.granule_bytes();
    for (int row = 0; row < C::page; ++row) {
      auto const* const k = reinterpret_cast<Value const*>(granule) +
                            static_cast<std::ptrdiff_t>(row) * g.row_elements + at;
      keys[static_cast<std::size_t>(n)] = k;
      values[static_cast<std::size_t>(n)] =
          reinterpret_cast<Value const*>(reinterpret_cast<std::byte const*>(k) + g.part_bytes);
      if (++n == tile_rows) {
        flush();
      }
    }
  }
  flush();
}

/// @brief Attention over the compact rows of a lane alone.
/// @param out [lane_queries][head_dim]
/// @param lse [lane_queries], nats; minus infinity where no row is compact
template <class C>
void attend_compact(LaneJob<C> const& job, float const* q, float* out, float* lse) noexcept {
  Geometry const& g = job.geometry();
  load_queries(job, q);
  load_states(job);
  LadderRuns<C> const runs = scan_lane(job);
  for (int head = 0; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
    OnlineSoftmax const state = head_state(job, head);
    state.reset();
    attend_pools(job, runs, state, head);
    state.finish(out + first * g.shape.head_dim, lse + first);
  }
}

}  // namespace kvfreeze::host
