#pragma once

/// @file
/// @brief A sequence's bytes, dealt to its lanes by the scheduler's shares.

#include <kvfreeze/host/head_split.hpp>
#include <kvfreeze/host/mark.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kvfreeze::host {

/// Granules that a lane must hold exact at the worst moment on its way to `rows` rows.
template <class C>
int worst_exact(Geometry const& g, int rows) noexcept {
  int const newest = ceil_div(std::max(g.limits.window - 1, 0), g.page) + 1;
  int const protect = std::max(C::has_digest ? C::tail_granules : 1, newest);
  return std::min(ceil_div(g.limits.sinks, g.page) + protect, g.granules(rows));
}

/// Bytes with which a lane of a sequence of `length` tokens can take a chunk, whatever it wants: of
/// `planned_chunk` tokens, or of a half, a quarter, ... where there is not room for that in every
/// lane.
template <class C>
std::size_t lane_floor(Geometry const& g, int length, std::size_t bytes) noexcept {
  auto const at = [&](int most) {
    int const rows = std::min(most, g.limits.max_tokens);
    return lane_bytes<C>(g, worst_exact<C>(g, rows), rows);
  };
  for (int more = planned_chunk; more > 1; more /= 2) {
    std::size_t const chunk = at(length + more);
    if (chunk * static_cast<std::size_t>(g.lanes) <= bytes) {
      return chunk;
    }
  }
  return at(length + 1);
}

/// @brief Deals a sequence's bytes to its lanes by the scheduler's shares: what the lane's rows
/// need in any case, and beside that as much as its share for each, but not less than a chunk
/// needs, or an equal part if that is less, and not more than all its rows need; what is left then
/// in equal parts. The scale that makes the sum fit is found by halving. O(lanes * 40).
template <class C>
void deal_lanes(Context<C>& context, std::uint32_t index, std::size_t bytes) noexcept {
  Geometry const& g = context.geometry();
  auto const lanes = static_cast<std::uint32_t>(g.lanes);
  int const length = context.sequences[index].length;
  int const rows = length + block_rows;
  std::size_t const floor = std::min(lane_floor<C>(g, length, unlimited), bytes / lanes);
  std::size_t const most = std::max(lane_bytes<C>(g, g.granules(rows), rows), floor);
  auto const fixed = static_cast<double>(lane_bytes<C>(g, 0, rows));
  if constexpr (C::needs_layer_parts) {
    note_layer_parts(context, index, allowed_granules<C>(g, bytes / lanes, rows));
  }
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {  // in `aim`, so that it is asked once
    LaneJob<C> const job = lane_job(context, index, lane);
    float const share = context.scheduler.share(lane_facts(job));
    job.lane().aim = static_cast<std::size_t>(static_cast<double>(share) * 0x1p20);
  }
  auto const budget = [&](std::uint32_t lane, double scale) {
    double const aim =
        fixed + static_cast<double>(context.memory.lane(index, lane).lane->aim) * scale;
    return aim >= static_cast<double>(most) ? most : std::max(static_cast<std::size_t>(aim), floor);
  };
  double low = 0.0;
  double high = 2.0 * static_cast<double>(bytes) * 0x1p-20;
  for (int i = 0; i < 40; ++i) {
    double const scale = 0.5 * (low + high);
    std::size_t sum = 0;
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      sum += budget(lane, scale);
    }
    (sum <= bytes ? low : high) = scale;
  }
  std::size_t dealt = 0;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    dealt += budget(lane, low);
  }
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    Lane<C>& own = *context.memory.lane(index, lane).lane;
    own.budget = budget(lane, low) + (bytes - dealt) / lanes;
    own.aim = unlimited;
  }
}

}  // namespace kvfreeze::host
