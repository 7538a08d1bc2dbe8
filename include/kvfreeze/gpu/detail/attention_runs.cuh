#pragma once

#include <kvfreeze/gpu/attention_lane.cuh>
#include <kvfreeze/gpu/detail/coded_rows.cuh>
#include <kvfreeze/gpu/detail/exact_rows.cuh>
#include <kvfreeze/gpu/detail/tile_loop.cuh>

#include <cstdint>

namespace kvfreeze::gpu::detail {

template <class... Sources>
constexpr int largest_slot() {
  int most = 0;
  ((most = Sources::slot_bytes > most ? Sources::slot_bytes : most), ...);
  return most;
}

template <class... Sources>
constexpr int longest_tile() {
  int most = 0;
  ((most = Sources::tile_rows > most ? Sources::tile_rows : most), ...);
  return most;
}

/// @brief The runs of a lane, what they are read by, and the tiles that they have.
template <class Lane, int Dim>
struct AttentionRuns;

template <Element T, int Dim>
struct AttentionRuns<AttentionLane<T>, Dim> {
  using Exact = ExactRows<T, Dim, true>;
  using Sizes = AttentionSizes<Dim, Exact::slot_bytes>;
  static constexpr int runs = 1;
  static constexpr int weight_rows = Exact::tile_rows;

  template <int Run>
  static constexpr std::uint32_t tile_rows = Exact::tile_rows;

  /// Rows of a run that are read.
  template <int Run, class Lanes>
  static __device__ std::uint32_t rows(Lanes const& lanes, std::uint32_t lane, bool compact_only) {
    return compact_only ? 0 : lanes.rows(0, lane);
  }
};

template <Element T, int... Bits, int Dim>
  requires(sizeof...(Bits) > 0)
struct AttentionRuns<AttentionLane<T, Bits...>, Dim> {
  using Exact = ExactRows<T, Dim, true>;
  using Known = KnownRows<T, Dim>;
  using Sizes =
      AttentionSizes<Dim, Exact::slot_bytes, largest_slot<Exact, Known, CodedRows<Bits, Dim>...>()>;
  static constexpr int runs = AttentionLane<T, Bits...>::runs;
  static constexpr int weight_rows = longest_tile<Exact, Known, CodedRows<Bits, Dim>...>();

  template <int Run>
  static constexpr std::uint32_t tile_rows = Run == 0   ? Exact::tile_rows
                                             : Run == 1 ? Known::tile_rows
                                                        : CodedRows<4, Dim>::tile_rows;

  template <int Run, class Lanes>
  static __device__ std::uint32_t rows(Lanes const& lanes, std::uint32_t lane, bool compact_only) {
    if (Run < 2 && compact_only) {
      return 0;
    }
    std::uint32_t const count = lanes.rows(Run, lane);
    return Run == 0 ? count - lanes.rows(1, lane) : count;
  }

  /// Bits of the codes of a run.
  template <int Run>
  static KVFREEZE_HD constexpr int bits() {
    constexpr int each[] = {Bits...};
    return each[Run - 2];
  }
};

}  // namespace kvfreeze::gpu::detail
