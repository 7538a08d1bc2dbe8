#pragma once

/// @file
/// @brief The pools of compact rows: one for each level of the layout, slots dense.

#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/kernels/code_rows.hpp>
#include <kvfreeze/host/kernels/convert.hpp>
#include <kvfreeze/host/kernels/rotation.hpp>
#include <kvfreeze/host/kernels/value_codes.hpp>

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

namespace kvfreeze::host {

/// Lower bits of the keys of one KV head in a pool.
template <class C>
CodeRows residual_rows(LaneRef<C> const& ref, std::size_t level, int head) noexcept {
  PoolGeometry const& g = ref.geometry->pools[level];
  return {ref.codes(level) + static_cast<std::size_t>(head) * static_cast<std::size_t>(block_rows) *
                                 g.residual_bytes,
          g.block_bytes, g.residual_bytes};
}

/// V codes of one KV head in a pool.
template <class C>
CodeRows value_rows(LaneRef<C> const& ref, std::size_t level, int head) noexcept {
  PoolGeometry const& g = ref.geometry->pools[level];
  return {ref.codes(level) + g.values_offset +
              static_cast<std::size_t>(head) * static_cast<std::size_t>(block_rows) * g.value_bytes,
          g.block_bytes, g.value_bytes};
}

/// Scales of the V codes of one KV head in a pool.
template <class C>
CodeRows scale_rows(LaneRef<C> const& ref, std::size_t level, int head) noexcept {
  PoolGeometry const& g = ref.geometry->pools[level];
  return {
      ref.codes(level) + g.scales_offset +
          static_cast<std::size_t>(head) * static_cast<std::size_t>(block_rows) * sizeof(BFloat16),
      g.block_bytes, sizeof(BFloat16)};
}

/// Address of row `row` of a pool's code rows.
inline std::byte* code_row(CodeRows const& rows, int row) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): pools are the cache's own
  return const_cast<std::byte*>(rows.base) +
         static_cast<std::size_t>(row / block_rows) * rows.block_bytes +
         static_cast<std::size_t>(row % block_rows) * rows.row_bytes;
}

/// Calls f(level, V bits, key bits of the pool), all constants.
template <class C, class F>
void with_level(std::size_t level, F&& f) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    static_cast<void>(
        ((level == I ? (f(std::integral_constant<std::size_t, I>{},
                          std::integral_constant<int, C::CompactRows::value_bits[I]>{},
                          std::integral_constant<int, C::residual_bits(I)>{}),
                        true)
                     : false) ||
         ...));
  }(std::make_index_sequence<static_cast<std::size_t>(C::levels)>{});
}

/// @brief Codes a granule at the end of a level's pool; its state becomes compact.
/// @param k, v the granule's exact rows; those of the lane stay where they are while pools grow
template <class C>
void push_code(Memory<C>& memory, LaneRef<C> const& ref, std::size_t level, std::uint32_t granule,
               typename C::Value const* k, typename C::Value const* v,
               std::uint32_t step) noexcept {
  Geometry const& g = *ref.geometry;
  Pool& pool = ref.lane->pools[level];
  auto const slot = static_cast<std::uint32_t>(pool.slots);
  memory.grow_codes(ref, level, pool.slots + 1);
  pool.first = slot == 0 ? granule : pool.first;
  pool.consecutive = slot == 0 || (pool.consecutive && granule == pool.first + slot);
  pool.slots += 1;
  ref.code_granule(level, slot) = granule;
  ref.code_stamp(level, slot) = static_cast<std::uint16_t>(step);
  auto& state = ref.state(granule);
  state = GranuleState::with(state, Fidelity::compact);
  int const dim = g.shape.head_dim;
  alignas(64) std::array<float, 512> floats;
  with_level<C>(level, [&](auto level_c, auto bits, auto residual) {
    for (int i = 0; i < C::page; ++i) {
      int const row = static_cast<int>(slot) * C::page + i;
      for (int head = 0; head < g.heads_per_lane; ++head) {
        std::ptrdiff_t const at = static_cast<std::ptrdiff_t>(i) * g.row_elements +
                                  static_cast<std::ptrdiff_t>(head) * dim;
        if constexpr (C::refines) {
          if constexpr (residual() > 0) {
            to_floats(k + at, floats.data(), static_cast<std::size_t>(dim));
            int const group = (static_cast<int>(granule) * C::page + i) / C::Digest::group_rows;
            C::Digest::template encode_residual<residual()>(
                floats.data(), dim, ref.digest(group, head),
                code_row(residual_rows(ref, level_c(), head), row));
          }
        }
        to_floats(v + at, floats.data(), static_cast<std::size_t>(dim));
        subtract(floats.data(), ref.value_means() + static_cast<std::ptrdiff_t>(head) * dim, dim);
        rotate(floats.data(), dim);
        BFloat16 const scale = encode_values<bits()>(
            floats.data(), dim, code_row(value_rows(ref, level_c(), head), row));
        std::memcpy(code_row(scale_rows(ref, level_c(), head), row), &scale, sizeof scale);
      }
    }
  });
}

/// Copies a slot of a level's pool over another.
template <class C>
void move_code(LaneRef<C> const& ref, std::size_t level, std::uint32_t from,
               std::uint32_t to) noexcept {
  if (from == to) {
    return;
  }
  ref.lane->pools[level].consecutive = false;
  ref.code_granule(level, to) = ref.code_granule(level, from);
  ref.code_stamp(level, to) = ref.code_stamp(level, from);
  Geometry const& g = *ref.geometry;
  PoolGeometry const& p = g.pools[level];
  for (int i = 0; i < C::page; ++i) {
    int const old_row = static_cast<int>(from) * C::page + i;
    int const row = static_cast<int>(to) * C::page + i;
    for (int head = 0; head < g.heads_per_lane; ++head) {
      CodeRows const residuals = residual_rows(ref, level, head);
      copy_codes(code_row(residuals, row), code_row(residuals, old_row), p.residual_bytes);
      CodeRows const values = value_rows(ref, level, head);
      CodeRows const scales = scale_rows(ref, level, head);
      copy_codes(code_row(values, row), code_row(values, old_row), p.value_bytes);
      std::memcpy(code_row(scales, row), code_row(scales, old_row), sizeof(BFloat16));
    }
  }
}

/// @brief Takes a slot out of a level's pool: the last one moves into its place. The granule's
/// state is the caller's business.
template <class C>
void pop_code(LaneRef<C> const& ref, std::size_t level, std::uint32_t slot) noexcept {
  move_code(ref, level, static_cast<std::uint32_t>(ref.lane->pools[level].slots - 1), slot);
  ref.lane->pools[level].slots -= 1;
}

/// @brief A compact granule freezes: its code is dropped, the tier has its exact rows.
///
/// The last slot of the pool takes its place; with `known` slots in front of others, the last one
/// of those does, and the last of all that one's, so that the known ones stay in front.
template <class C>
void drop_code(LaneRef<C> const& ref, std::size_t level, std::uint32_t slot, std::uint32_t step,
               int known) noexcept {
  std::uint32_t const granule = ref.code_granule(level, slot);
  auto& state = ref.state(granule);
  state = GranuleState::with(state, Fidelity::frozen);
  ref.note_change(granule, step);
  auto const last_known = static_cast<std::uint32_t>(known - 1);
  move_code(ref, level, last_known, slot);
  pop_code(ref, level, last_known);
}

template <class C>
void drop_code(LaneRef<C> const& ref, std::size_t level, std::uint32_t slot,
               std::uint32_t step) noexcept {
  drop_code(ref, level, slot, step, ref.lane->pools[level].slots);
}

/// @brief Freezes the compact granules for which `pick(granule)` holds. O(compact granules).
template <class C, class Choose>
void drop_codes_where(LaneRef<C> const& ref, std::uint32_t step, Choose&& pick) noexcept {
  for (std::size_t level = 0; level < C::levels; ++level) {
    for (auto slot = static_cast<std::uint32_t>(ref.lane->pools[level].slots); slot-- > 0;) {
      if (pick(ref.code_granule(level, slot))) {
        drop_code(ref, level, slot, step);
      }
    }
  }
}

}  // namespace kvfreeze::host
