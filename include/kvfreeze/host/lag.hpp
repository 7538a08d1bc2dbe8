#pragma once

/// @file
/// @brief Ranks of rows within chunks, by the ranges of the chunk that follows. @see LagScorer

#include <kvfreeze/detail/row_rating.hpp>
#include <kvfreeze/host/context.hpp>
#include <kvfreeze/host/moments.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kvfreeze::host {

using kvfreeze::detail::most_lag;

/// Least and greatest of each channel over some rows.
struct ChannelRanges {
  std::array<float, most_dim> low;
  std::array<float, most_dim> high;

  void clear(int dim) noexcept {
    std::fill_n(low.begin(), dim, std::numeric_limits<float>::infinity());
    std::fill_n(high.begin(), dim, -std::numeric_limits<float>::infinity());
  }

  void add(float const* x, int dim) noexcept {
    for (int d = 0; d < dim; ++d) {
      auto const i = static_cast<std::size_t>(d);
      low[i] = std::min(low[i], x[d]);
      high[i] = std::max(high[i], x[d]);
    }
  }

  /// Standard deviation over the channels of (x - low) / (high - low), unbiased.
  [[nodiscard]] float deviation(float const* x, int dim) const noexcept {
    std::array<float, most_dim> scaled;
    float sum = 0.0F;
    for (int d = 0; d < dim; ++d) {
      auto const i = static_cast<std::size_t>(d);
      float const span = high[i] - low[i];
      scaled[i] = span > 0.0F ? kvfreeze::detail::quotient(x[d] - low[i], span) : 0.0F;
      sum += scaled[i];
    }
    float const mean = kvfreeze::detail::quotient(sum, static_cast<float>(dim));
    float squares = 0.0F;
    for (int d = 0; d < dim; ++d) {
      float const off = scaled[static_cast<std::size_t>(d)] - mean;
      squares = kvfreeze::detail::fused(off, off, squares);
    }
    return kvfreeze::detail::root(kvfreeze::detail::quotient(squares, static_cast<float>(dim - 1)));
  }
};

/// @brief Ranks the exact rows of each chunk: `ranks[granule]` is 0 for the lowest of its chunk and
/// below 1 for the highest; 1 where there is no complete chunk after it.
///
/// Chunks begin behind the sinks. A row's score is the sum of its softmax weights over the chunk,
/// one for keys and one for values of each KV head; rows that are gone take no part. Larger
/// granules count by their first row.
/// @complexity O(exact rows * head_dim) and a sort of each chunk; some 60 KiB of stack
template <class C>
void rank_by_lag(LaneJob<C> const& job, float* ranks) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  int const dim = g.shape.head_dim;
  int const lag = std::clamp(job.context->scorer.lag() / C::page, 1, most_lag);
  int const first = ceil_div(g.limits.sinks, C::page);
  int const granules = ref.granules();
  std::uint32_t* const slots = job.scratch->list();
  ref.map_slots(0, static_cast<std::uint32_t>(granules), slots);
  std::fill_n(ranks, granules, 1.0F);
  std::array<float, most_lag> score;
  std::array<std::uint32_t, most_lag> order;
  std::array<float, most_dim> x;
  for (int begin = first; begin + 2 * lag <= granules; begin += lag) {
    int const next = begin + lag;
    int count = 0;
    for (int granule = begin; granule < next; ++granule) {
      if (slots[granule] != no_slot) {
        score[static_cast<std::size_t>(count)] = 0.0F;
        order[static_cast<std::size_t>(count++)] = static_cast<std::uint32_t>(granule);
      }
    }
    for (int head = 0; head < g.heads_per_lane; ++head) {
      for (bool const keys : {true, false}) {
        auto const load = [&](std::uint32_t granule) {
          auto const* const row = keys ? ref.k(slots[granule]) : ref.v(slots[granule]);
          to_floats(row + static_cast<std::ptrdiff_t>(head) * dim, x.data(),
                    static_cast<std::size_t>(dim));
        };
        ChannelRanges ranges;
        ranges.clear(dim);
        int seen = 0;
        for (int granule = next; granule < next + lag; ++granule) {
          if (slots[granule] != no_slot) {
            load(static_cast<std::uint32_t>(granule));
            ranges.add(x.data(), dim);
            seen += 1;
          }
        }
        float total = 0.0F;
        std::array<float, most_lag> weight;
        for (int i = 0; i < count; ++i) {
          auto const at = static_cast<std::size_t>(i);
          load(order[at]);
          weight[at] =
              seen > 0 ? kvfreeze::detail::small_exp(ranges.deviation(x.data(), dim)) : 1.0F;
          total += weight[at];
        }
        for (int i = 0; i < count; ++i) {
          auto const at = static_cast<std::size_t>(i);
          score[at] += kvfreeze::detail::quotient(weight[at], total);
        }
      }
    }
    std::array<std::uint16_t, most_lag> by_score;
    for (int i = 0; i < count; ++i) {
      by_score[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(i);
    }
    std::sort(by_score.begin(), by_score.begin() + count, [&](auto a, auto b) {
      return score[a] < score[b] || (score[a] == score[b] && a > b);  // of equals the older stays
    });
    for (int i = 0; i < count; ++i) {
      // What is left of a chunk keeps the upper ranks: those that went were the lowest.
      ranks[order[by_score[static_cast<std::size_t>(i)]]] =
          kvfreeze::detail::quotient(static_cast<float>(lag - count + i), static_cast<float>(lag));
    }
  }
}

}  // namespace kvfreeze::host
