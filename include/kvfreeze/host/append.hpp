#pragma once

#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/importance.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/dot.hpp>
#include <kvfreeze/host/make_room.hpp>
#include <kvfreeze/host/movers.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

namespace kvfreeze::host {

/// K and V of one step as the caller gives them: [tokens][kv_heads][head_dim].
struct NewRows {
  float const* k = nullptr;
  float const* v = nullptr;
  int tokens = 0;
  int stride = 0;  ///< floats from one token to the next
};

/// @brief Notes the mean of the first group's values.
template <class C>
void note_value_means(LaneRef<C> const& ref, std::uint32_t const* slots) noexcept {
  Geometry const& g = *ref.geometry;
  auto const width = static_cast<std::size_t>(g.row_elements);
  float* const means = ref.value_means();
  std::fill_n(means, width, 0.0F);
  int rows = 0;
  for (int i = 0; i < C::tail_granules; ++i) {
    for (int row = 0; slots[i] != no_slot && row < g.page; ++row) {
      typename C::Value const* const v =
          ref.v(slots[i]) + static_cast<std::ptrdiff_t>(row) * g.row_elements;
      for (std::size_t d = 0; d < width; ++d) {
        means[d] += to_float(v[d]);
      }
      rows += 1;
    }
  }
  float const share = rows > 0 ? 1.0F / static_cast<float>(rows) : 0.0F;
  for (std::size_t d = 0; d < width; ++d) {
    means[d] *= share;
  }
}

/// @brief Encodes the lane's newest full group of keys.
template <class C>
void encode_group(LaneJob<C> const& job) noexcept {
  if constexpr (C::has_digest) {
    LaneRef<C> const& ref = job.ref;
    Geometry const& g = job.geometry();
    int const dim = g.shape.head_dim;
    int const group = ref.lane->groups;
    float* const keys = job.scratch->group_keys();
    std::array<std::uint32_t, static_cast<std::size_t>(C::tail_granules)> slots{};
    for (int i = 0; i < C::tail_granules; ++i) {
      slots[static_cast<std::size_t>(i)] =
          tail_slot(ref, static_cast<std::uint32_t>(group * C::tail_granules + i));
    }
    // Committing moves the tail on: the slots were read before.
    job.context->memory.resize_digests(ref, group + 1);
    if constexpr (C::has_levels) {
      if (group == 0) {
        note_value_means(ref, slots.data());
      }
    }
    auto const present = std::find_if(slots.begin(), slots.end(),
                                      [](std::uint32_t slot) { return slot != no_slot; });
    for (int head = 0; head < g.heads_per_lane; ++head) {
      if (present != slots.end()) {  // what the group's first rows are if they are evicted
        to_floats(ref.k(*present) + head * dim, keys, static_cast<std::size_t>(dim));
      } else {
        std::fill_n(keys, dim, 0.0F);
      }
      for (int i = 0; i < C::tail_granules; ++i) {
        for (int row = 0; row < g.page; ++row) {
          int const at = (i * g.page + row) * dim;
          std::uint32_t const slot = slots[static_cast<std::size_t>(i)];
          if (slot == no_slot) {  // evicted rows are as the row before
            std::copy_n(keys + std::max(at - dim, 0), dim, keys + at);
            continue;
          }
          to_floats(ref.k(slot) + row * g.row_elements + head * dim, keys + at,
                    static_cast<std::size_t>(dim));
        }
      }
      if constexpr (C::weighs) {
        float const* const importance = ref.importance + static_cast<std::ptrdiff_t>(head) * dim;
        C::Digest::encode(keys, is_known(importance, dim) ? importance : nullptr, dim,
                          ref.digest(group, head));
      } else {
        C::Digest::encode(keys, dim, ref.digest(group, head));
      }
    }
  }
}

/// @brief Appends rows [first, first + count) of `rows` to a lane. New rows are exact.
template <class C>
void append_rows(LaneJob<C> const& job, NewRows const& rows, int first, int count) {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  auto const elements = static_cast<std::size_t>(g.row_elements);
  ref.lane->tile_rows = std::max(ref.lane->tile_rows, ref.lane->rows + count);
  for (int i = first; i < first + count; ++i) {
    int const position = ref.lane->rows;
    auto const granule = static_cast<std::uint32_t>(position / g.page);
    int const row = position % g.page;
    if (granule % tile_granules == 0 && row == 0) {
      std::memset(static_cast<void*>(&ref.tile(granule)), 0, sizeof(GranuleTile<C>));
    }
    std::uint32_t slot = 0;
    if (row == 0) {
      ref.lane->rows = position + 1;
      ref.state(granule) = static_cast<std::uint8_t>(Fidelity::exact);
      ref.note_change(granule, 0);
      if constexpr (C::has_state && !C::scores_in_slots) {
        ref.score(granule, no_slot) = {};
      }
      if constexpr (C::sleeps) {
        ref.timer(granule) = {};
      }
      slot = acquire_slot(job.context->memory, ref, granule, job.step(), 0);
    } else {
      slot = tail_slot(ref, granule);
      ref.lane->rows = position + 1;
    }
    for (TokenRange const& pin : job.sequence->pins) {
      if (position >= pin.begin && position < pin.end) {
        ref.state(granule) |= GranuleState::pinned;
      }
    }
    std::ptrdiff_t const from = static_cast<std::ptrdiff_t>(i) * rows.stride +
                                static_cast<std::ptrdiff_t>(job.head) * g.row_elements;
    std::ptrdiff_t const to = static_cast<std::ptrdiff_t>(row) * g.row_elements;
    from_floats(rows.k + from, ref.k(slot) + to, elements);
    from_floats(rows.v + from, ref.v(slot) + to, elements);
    note_key_norm(ref, slot);
    note_direction(ref, ref.k(slot) + to);
    if constexpr (C::needs_queries) {
      ref.sums(slot)[row] = 0;
    }
    if constexpr (C::has_digest) {
      if (ref.lane->rows % C::Digest::group_rows == 0) {
        encode_group(job);
      }
    }
  }
}

}  // namespace kvfreeze::host
