#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/detail/async_copy.cuh>
#include <kvfreeze/gpu/detail/row_source.cuh>
#include <kvfreeze/gpu/paged_rows.cuh>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief Elements in shared memory as floats.
template <Element T>
struct SharedElements {
  static __device__ float one(std::byte const* at) {
    if constexpr (std::same_as<T, float>) {
      return *reinterpret_cast<float const*>(at);
    } else {
      return widened(*reinterpret_cast<unsigned short const*>(at));
    }
  }

  /// Eight of 16 bytes, or of twice 16 bytes where elements are floats.
  static __device__ void eight(std::byte const* at, std::byte const* more, float (&out)[8]) {
    if constexpr (std::same_as<T, float>) {
      float4 const a = *reinterpret_cast<float4 const*>(at);
      float4 const b = *reinterpret_cast<float4 const*>(more);
      out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
      out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
    } else {
      uint4 const x = *reinterpret_cast<uint4 const*>(at);
      pair(x.x, out[0], out[1]);
      pair(x.y, out[2], out[3]);
      pair(x.z, out[4], out[5]);
      pair(x.w, out[6], out[7]);
    }
  }

 private:
  static __device__ float widened(unsigned short bits) {
    if constexpr (std::same_as<T, Half>) {
      float x;
      asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
      return x;
    } else {
      return __uint_as_float(static_cast<unsigned>(bits) << 16);
    }
  }

  static __device__ void pair(unsigned bits, float& low, float& high) {
    if constexpr (std::same_as<T, Half>) {
      low = widened(static_cast<unsigned short>(bits));
      high = widened(static_cast<unsigned short>(bits >> 16));
    } else {
      low = __uint_as_float(bits << 16);
      high = __uint_as_float(bits & 0xFFFF0000U);
    }
  }
};

/// @brief How rows of up to `Dim` elements lie in a slot: one behind another, padded with zeros.
/// @tparam Dim 64, 128 or 256
template <Element T, int Dim>
struct SlotRows {
  static constexpr int row_bytes = Dim * static_cast<int>(sizeof(T));
  static constexpr int chunks = row_bytes / 16;
  static constexpr int row_threads = Dim / thread_channels;             ///< that share a row of V
  static constexpr int chain_bytes = 16 * static_cast<int>(sizeof(T));  ///< 16 neighbours

  /// Keys are read two rows at a time, 16 neighbours of each: rows four apart must not have those
  /// in the same banks.
  static __device__ unsigned swizzle(unsigned row) {
    return (row / 4 % 2) * static_cast<unsigned>(chain_bytes / 16);
  }

  /// @brief Where a row of a tile lies, row t % Rows in thread t. Found in two steps, a tile apart,
  /// so that neither waits for memory.
  struct Place {
    std::uint32_t next_slot = 0;  ///< of the tile behind
    std::uint32_t slot = 0;
    std::uint32_t page = 0;  ///< where there are page numbers
  };

  /// The first step for the tile of which rows [first, first + count) are.
  template <int Rows>
  static __device__ void look_up_slots(PagedRows<T> const& rows, std::uint32_t first,
                                       std::uint32_t count, Place& place) {
    unsigned const row = warp_thread() % Rows;
    std::uint32_t const at = first + row;
    place.next_slot = at;
    if (rows.slots != nullptr && row < count) {
      std::uint32_t const within = at & ((1U << rows.slot_shift) - 1U);
      place.next_slot = (__ldg(rows.slots + (at >> rows.slot_shift)) << rows.slot_shift) | within;
    }
  }

  /// The second step for the tile whose slots were looked up, which has `count` rows.
  template <int Rows>
  static __device__ void look_up_pages(PagedRows<T> const& rows, std::uint32_t count,
                                       Place& place) {
    place.slot = place.next_slot;
    if (rows.pages != nullptr && warp_thread() % Rows < count) {
      place.page = __ldg(rows.pages + (place.slot >> rows.page_shift));
    }
  }

  /// @brief Starts copying a tile of K, V or both.
  template <int Rows, bool Keys, bool Values>
  static __device__ void copy(PagedRows<T> const& rows, Place const& place, std::uint32_t count,
                              int dim, std::byte* slot) {
    std::uint32_t const token = place.slot & ((1U << rows.page_shift) - 1U);
    std::uint32_t const page = rows.pages != nullptr ? place.page : place.slot >> rows.page_shift;
    std::uint64_t const offset =
        (page * rows.page_elements + static_cast<std::size_t>(token) * rows.row_elements) *
        sizeof(T);
    // A tile is nearly always whole. Then nothing depends on the row but its address.
    if (count == Rows && dim == Dim) {
      copy_rows<Rows, Keys, Values>(rows, offset, slot, [](unsigned, unsigned) { return true; });
    } else {
      auto const used = static_cast<unsigned>(dim) * static_cast<unsigned>(sizeof(T));
      copy_rows<Rows, Keys, Values>(rows, offset, slot, [&](unsigned row, unsigned chunk) {
        return row < count && 16 * chunk < used;
      });
    }
  }

  /// sums[h][i] += weight of head h * value in channel(i), over all rows of a tile of V.
  template <int Rows>
  static __device__ void accumulate(std::byte const* values, float4 const* weights,
                                    float (&sums)[warp_heads][thread_channels]) {
    unsigned const within = warp_thread() % row_threads;
#pragma unroll
    for (unsigned i = 0; i < Rows * row_threads / 32; ++i) {
      unsigned const row = i * (32 / row_threads) + warp_thread() / row_threads;
      std::byte const* const at = values + row * row_bytes + 16 * within;
      float v[thread_channels];
      SharedElements<T>::eight(at, at + row_bytes / 2, v);
      float4 const w = weights[row];
#pragma unroll
      for (int c = 0; c < thread_channels; ++c) {
        sums[0][c] = __fmaf_rn(w.x, v[c], sums[0][c]);
        sums[1][c] = __fmaf_rn(w.y, v[c], sums[1][c]);
        sums[2][c] = __fmaf_rn(w.z, v[c], sums[2][c]);
        sums[3][c] = __fmaf_rn(w.w, v[c], sums[3][c]);
      }
    }
  }

  static __device__ int channel(int i) {
    auto const within = static_cast<int>(warp_thread() % row_threads);
    if constexpr (sizeof(T) == 2) {
      return thread_channels * within + i;
    } else {
      return i / 4 * (Dim / 2) + 4 * within + i % 4;
    }
  }

 private:
  /// @param there there(row, chunk): 16 bytes that exist; others become zeros
  template <int Rows, bool Keys, bool Values, class There>
  static __device__ void copy_rows(PagedRows<T> const& rows, std::uint64_t offset, std::byte* slot,
                                   There const& there) {
    unsigned const t = warp_thread();
    auto const* const k = reinterpret_cast<std::byte const*>(rows.k);
    auto const* const v = reinterpret_cast<std::byte const*>(rows.v);
    std::uint32_t const start = shared_address(slot);
#pragma unroll
    for (unsigned i = 0; i < Rows * chunks / 32; ++i) {
      unsigned const row = (32 * i + t) / chunks;
      unsigned const chunk = (32 * i + t) % chunks;
      std::uint64_t const from =
          __shfl_sync(0xFFFFFFFFU, offset, static_cast<int>(row)) + 16 * chunk;
      std::uint32_t to = start + row * row_bytes;
      if constexpr (Keys) {
        copy_or_clear(to + 16 * (chunk ^ swizzle(row)), k + from, there(row, chunk));
        to += Rows * row_bytes;
      }
      if constexpr (Values) {
        copy_or_clear(to + 16 * chunk, v + from, there(row, chunk));
      }
    }
  }
};

}  // namespace kvfreeze::gpu::detail
