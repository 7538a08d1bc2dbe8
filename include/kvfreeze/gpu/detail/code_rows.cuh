#pragma once

/// @file
/// @brief Rows coded into slots of a lane's pools, half a warp each.

#include <kvfreeze/gpu/detail/encode_rows_kernels.cuh>
#include <kvfreeze/gpu/lane.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// A row whose exact values are at hand.
template <class C>
struct ExactRow {
  std::uint32_t granule;
  typename C::Value const* k;
  typename C::Value const* v;
};

/// @brief Codes two rows of a level at a time, by a warp. Its shared memory holds the levels'
/// tables and, for each half of a warp, the code that is being put together.
template <class C, int Threads>
struct RowCoder {
  static constexpr int most_dim =
      C::max_head_dim > 0 ? C::max_head_dim : host::kernels::max_head_dim;
  static constexpr int blocks = (most_dim + 63) / 64;
  static constexpr int most_bytes = blocks * (64 + 32);  ///< 8 bits of V and 4 of K

  struct Storage {
    ValueTables<2> two;
    ValueTables<4> four;
    alignas(16) std::byte staged[Threads / 16][most_bytes];
  };

  /// By the whole block, before a barrier.
  static __device__ void fill(Storage& storage) {
    storage.two.fill(static_cast<int>(threadIdx.x));
    storage.four.fill(static_cast<int>(threadIdx.x));
  }

  /// @brief Writes a row's code, but for granule and stamp. Each half of the warp has a row.
  /// @param level of both
  /// @param stores false: the half has none of its own, and writes nothing
  static __device__ void encode(Storage& storage, LaneRef<C> const& ref, int level,
                                std::uint32_t slot, ExactRow<C> const& row, bool stores) {
    for_level<0>(storage, ref, level, slot, row, stores);
  }

 private:
  template <int Level>
  static __device__ void for_level(Storage& storage, LaneRef<C> const& ref, int level,
                                   std::uint32_t slot, ExactRow<C> const& row, bool stores) {
    if constexpr (Level < C::levels) {
      if (level == Level) {
        int const heads = C::by_layer ? ref.geometry->heads_per_lane : 1;
        for (int head = 0; head < heads; ++head) {
          encode_head<Level>(storage, ref, slot, head, row, stores);
        }
      } else {
        for_level<Level + 1>(storage, ref, level, slot, row, stores);
      }
    }
  }

  template <int Bits>
  static __device__ auto const& tables(Storage const& storage) {
    if constexpr (Bits == 2) {
      return storage.two;
    } else {
      return storage.four;
    }
  }

  /// @param head KV head of the lane
  template <int Level>
  static __device__ void encode_head(Storage& storage, LaneRef<C> const& ref, std::uint32_t slot,
                                     int head, ExactRow<C> const& row, bool stores) {
    constexpr int bits = C::template value_bits<Level>;
    constexpr int residual = C::template key_residual<Level>;
    int const dim = ref.geometry->head_dim;
    auto const half = static_cast<int>(threadIdx.x % 16);
    std::byte* const staged = storage.staged[threadIdx.x / 16];
    int const first = head * dim;
    auto const value = [&](int c) {
      return __fsub_rn(widened(row.v[first + c]), ref.means[first + c]);
    };
    BFloat16 scale;
    if constexpr (bits == 8) {
      scale = encode_values<8, blocks>(ValueTables<8>{}, value, dim, staged, half);
    } else {
      scale = encode_values<bits, blocks>(tables<bits>(storage), value, dim, staged, half);
    }
    auto const value_bytes = static_cast<int>(ref.geometry->pool[Level].value_bytes);
    if constexpr (residual > 0) {
      std::uint32_t const group = row.granule / static_cast<std::uint32_t>(C::Digest::group_rows);
      std::byte const* const digest = ref.digest(group, head);
      encode_residual<residual>([&](int c) { return widened(row.k[first + c]); },
                                C::Digest::codes(digest, dim), staged + value_bytes, half);
    }
    __syncwarp();
    if (stores) {
      CodeSlot<C> const code = ref.code(Level, slot);
      copy_code(code.values(head), staged, value_bytes, half);
      if constexpr (residual > 0) {
        copy_code(code.residual(head), staged + value_bytes,
                  static_cast<int>(ref.geometry->pool[Level].residual_bytes), half);
      }
      if (half == 0) {
        code.scale(head) = scale;
      }
    }
    __syncwarp();
  }
};

}  // namespace kvfreeze::gpu::detail
