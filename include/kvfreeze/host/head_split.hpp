#pragma once

/// @file
/// @brief A layer's budget by its rows' scores, whichever head they belong to.

#include <kvfreeze/host/choose.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/scores.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace kvfreeze::host {

/// @brief Finds how many of a layer's highest rows each of its lanes has, relative to the mean
/// lane: into the lanes' `layer_part`.
///
/// The layer's cut is that of one histogram over all its lanes, eight bins to the octave; a bin
/// that is cut counts in proportion; what is protected is wanted in any case. A layer without rows
/// keeps its parts: a sequence that is being restored has them before its rows. O(exact rows).
/// @param most granules that the mean lane may hold exact
template <class C>
void note_layer_parts(Context<C>& context, std::uint32_t index, int most) noexcept {
  Geometry const& g = context.geometry();
  auto const heads = static_cast<std::uint32_t>(g.lanes_per_layer);
  for (std::uint32_t first = 0; first < static_cast<std::uint32_t>(g.lanes); first += heads) {
    int exact = 0;
    for (std::uint32_t lane = first; lane < first + heads; ++lane) {
      exact += context.memory.lane(index, lane).lane->exact;
    }
    if (exact == 0) {
      continue;
    }
    std::array<std::uint32_t, ScoreHistogram::bins> layer{};
    auto const bins_of = [&](std::uint32_t lane, auto& bins) {
      LaneJob<C> const job = lane_job(context, index, lane);
      job.scratch->commit(job.lane().rows);
      int stay = job.lane().exact;
      score_open(job, [&](std::uint32_t, float score) {
        bins[static_cast<std::size_t>(ScoreHistogram::bin(score))] += 1;
        stay -= 1;
      });
      return stay;
    };
    std::int64_t left = static_cast<std::int64_t>(most) * heads;
    for (std::uint32_t lane = first; lane < first + heads; ++lane) {
      left -= bins_of(lane, layer);
    }
    int cut = ScoreHistogram::bins;  // bins from here on are wanted whole
    while (cut > 0 && layer[static_cast<std::size_t>(cut - 1)] <= left) {
      left -= layer[static_cast<std::size_t>(--cut)];
    }
    double total = 0.0;
    for (std::uint32_t lane = first; lane < first + heads; ++lane) {
      std::array<std::uint32_t, ScoreHistogram::bins> own{};
      double count = bins_of(lane, own);
      for (int bin = cut; bin < ScoreHistogram::bins; ++bin) {
        count += own[static_cast<std::size_t>(bin)];
      }
      if (cut > 0 && left > 0) {
        auto const edge = static_cast<std::size_t>(cut - 1);
        count += static_cast<double>(own[edge]) * static_cast<double>(left) / layer[edge];
      }
      context.memory.lane(index, lane).lane->layer_part.value = static_cast<float>(count);
      total += count;
    }
    for (std::uint32_t lane = first; lane < first + heads; ++lane) {
      float& part = context.memory.lane(index, lane).lane->layer_part.value;
      part = total > 0.0 ? static_cast<float>(static_cast<double>(part) * heads / total) : 1.0F;
    }
  }
}

}  // namespace kvfreeze::host
