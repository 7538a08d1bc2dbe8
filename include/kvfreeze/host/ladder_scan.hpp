#pragma once

/// @file
/// @brief The ladder's estimate: logits and masses of all rows under the current query, frozen ones
/// by their digest, compact ones by their codes, exact ones by their keys.

#include <kvfreeze/host/code_pools.hpp>
#include <kvfreeze/host/kernels/gather.hpp>
#include <kvfreeze/host/kernels/known_weights.hpp>
#include <kvfreeze/host/kernels/mass_threshold.hpp>
#include <kvfreeze/host/kernels/masses.hpp>
#include <kvfreeze/host/mark.hpp>
#include <kvfreeze/host/observe.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace kvfreeze::host {

/// @brief One lane's rows under one query, by where they are: first the digests' (frozen rows take
/// part), then the exact rows in list order, then the pools' in slot order.
///
/// Logits, weights and masses lie in the part's scratch and are valid until its next lane.
template <class C>
struct LadderRuns {
  static constexpr std::size_t exact = 1;
  static constexpr std::size_t pools = 2;
  static constexpr std::size_t count = pools + static_cast<std::size_t>(C::levels);

  std::array<LogitRun, count> run{};
  RowList list;  ///< the exact rows

  [[nodiscard]] std::span<LogitRun const> all() const noexcept { return run; }

  [[nodiscard]] Mass* masses(std::size_t i) const noexcept { return run[i].masses; }
};

/// Logits of the digested rows, into the scratch's `logits()`.
template <class C>
void scan_digests(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  int const dim = g.shape.head_dim;
  std::ptrdiff_t const stride = scratch.stride();
  constexpr int rows = C::Digest::group_rows;
  std::uint8_t const* const states = scratch.states();
  NestedQueries const folded = scratch.folded(g);
  std::size_t const group_bytes = g.digest_group_bytes / static_cast<std::size_t>(g.heads_per_lane);
  auto const is_needed = [&](int group) {  // sleepers cost nothing
    if constexpr (C::sleeps) {
      std::uint8_t const* const first = states + group * C::tail_granules;
      return std::any_of(first, first + C::tail_granules, [](std::uint8_t state) {
        Fidelity const f = GranuleState::fidelity(state);
        return f == Fidelity::frozen || f == Fidelity::compact;
      });
    } else {
      return true;
    }
  };
  auto const query = [&](int head) {
    return DigestQuery{scratch.query() + static_cast<std::ptrdiff_t>(head) * g.group * dim, g.group,
                       dim};
  };
  int const entries = ref.lane->groups * g.heads_per_lane;
  for (int i = 0; i < entries; ++i) {
    // Pages are small and hardware stops at their ends: two groups ahead are asked for.
    prefetch_bytes(ref.digest(0, 0) + static_cast<std::size_t>(i + 2) * group_bytes, group_bytes);
    int const group = i / g.heads_per_lane;
    int const head = i % g.heads_per_lane;
    if (!is_needed(group)) {
      continue;
    }
    std::byte const* const digest = ref.digest(group, head);
    float* const logits = scratch.logits() + static_cast<std::ptrdiff_t>(head) * g.group * stride +
                          static_cast<std::ptrdiff_t>(group) * rows;
    if constexpr (C::refines) {
      C::Digest::fold(query(head), digest, folded, i);
      C::Digest::scan_folded(folded, i, digest, logits, stride);
    } else {
      C::Digest::scan(query(head), digest, logits, stride);
    }
    ref.lane->touched += group_bytes;
  }
}

/// Are a level's logits those of the digests, side by side? Only where nothing is ranked: ranking
/// turns the digests' logits into weights while the pools' are still needed.
template <class C>
bool lies_in_place(LaneRef<C> const& ref, std::size_t level) noexcept {
  return C::uniform && !C::refines && ref.lane->pools[level].consecutive;
}

/// Places the scratch's sections for what the lane holds: exact rows first, then the pools.
template <class C>
void place_sections(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  std::array<int, most_sections> rows{ref.lane->slots * C::page};
  for (std::size_t level = 0; level < C::levels; ++level) {
    bool const apart = !lies_in_place(ref, level);
    rows[1 + level] = apart ? ref.lane->pools[level].slots * C::page : 0;
  }
  job.scratch->place_sections(rows);
}

/// @brief Logits of the rows of a level's pool, into its section: the digest's, refined by the
/// lower bits that the pool holds.
template <class C>
void pool_logits(LaneJob<C> const& job, std::size_t level) noexcept {
  LaneRef<C> const& ref = job.ref;
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  std::ptrdiff_t const stride = scratch.stride();
  std::uint32_t* const rows = scratch.list();
  std::uint32_t* const groups = scratch.slots();
  int const count = ref.lane->pools[level].slots * C::page;
  if (lies_in_place(ref, level)) {
    return;  // make_runs() takes them where they are
  }
  if constexpr (C::page == 1) {
    for (int i = 0; i < count; i += block_rows) {
      prefetch_bytes(reinterpret_cast<std::byte const*>(
                         &ref.code_granule(level, static_cast<std::uint32_t>(i + 8 * block_rows))),
                     64);
      prefetch_bytes(code_row(residual_rows(ref, level, 0), i + 2 * block_rows),
                     static_cast<std::size_t>(block_rows) * g.pools[level].residual_bytes);
      std::memcpy(rows + i, &ref.code_granule(level, static_cast<std::uint32_t>(i)),
                  static_cast<std::size_t>(std::min(block_rows, count - i)) * sizeof *rows);
    }
  } else {
    for (int i = 0; i < count; ++i) {
      auto const row = static_cast<std::uint32_t>(i);
      rows[i] = ref.code_granule(level, row / C::page) * C::page + row % C::page;
    }
  }
  for (int head = 0; head < g.heads_per_lane; ++head) {
    for (int h = head * g.group; h < (head + 1) * g.group; ++h) {
      gather_floats(scratch.logits() + h * stride, rows, count,
                    scratch.section_logits(1 + level) + h * stride);
    }
    if constexpr (C::refines) {
      with_level<C>(level, [&](auto, auto, auto residual) {
        if constexpr (residual() > 0) {
          for (int i = 0; i < count; ++i) {
            groups[i] = rows[i] / static_cast<std::uint32_t>(C::Digest::group_rows) *
                            static_cast<std::uint32_t>(g.heads_per_lane) +
                        static_cast<std::uint32_t>(head);
          }
          C::Digest::template refine<residual()>(
              residual_rows(ref, level, head), count, groups, scratch.folded(g),
              scratch.section_logits(1 + level) +
                  static_cast<std::ptrdiff_t>(head) * g.group * stride,
              stride);
        }
      });
    }
  }
}

/// Logits of the listed exact rows, into section 0.
template <class C>
void exact_section(LaneJob<C> const& job, RowList const& list) noexcept {
  Geometry const& g = job.geometry();
  Scratch& scratch = *job.scratch;
  for (int head = 0; head < g.heads_per_lane; ++head) {
    std::ptrdiff_t const first = static_cast<std::ptrdiff_t>(head) * g.group;
    float const* const q = scratch.query() + first * g.shape.head_dim;
    float* const logits = scratch.section_logits(0) + first * scratch.stride();
    if (list.slots == nullptr) {
      block_logits(job.ref.row_blocks(head), list.count, q, g.group, g.shape.head_dim, logits,
                   scratch.stride());
    } else {
      listed_logits(job.ref.row_blocks(head), list.slots, list.count, q, g.group, g.shape.head_dim,
                    logits, scratch.stride());
    }
  }
}

/// The runs of a lane, their logits not filled in.
template <class C>
LadderRuns<C> make_runs(LaneJob<C> const& job) noexcept {
  LaneRef<C> const& ref = job.ref;
  Scratch& scratch = *job.scratch;
  LadderRuns<C> runs;
  runs.list = list_rows(job, false);
  runs.run[0] = {scratch.logits(), scratch.stride(), ref.lane->groups * C::Digest::group_rows,
                 C::page == 1 ? scratch.states() : nullptr, scratch.masses()};
  runs.run[1] = {scratch.section_logits(0), scratch.stride(), runs.list.count, nullptr,
                 scratch.section_masses(0)};
  for (std::size_t level = 0; level < C::levels; ++level) {
    Pool const& pool = ref.lane->pools[level];
    int const rows = pool.slots * C::page;
    runs.run[LadderRuns<C>::pools + level] = {scratch.section_logits(1 + level), scratch.stride(),
                                              rows, nullptr, scratch.section_masses(1 + level)};
    if (lies_in_place(ref, level)) {
      runs.run[LadderRuns<C>::pools + level].logits =
          scratch.logits() + static_cast<std::ptrdiff_t>(pool.first) * C::page;
    }
  }
  return runs;
}

/// @brief Fills the logits of all runs. `states()` must be loaded.
template <class C>
LadderRuns<C> scan_lane(LaneJob<C> const& job) noexcept {
  place_sections(job);
  scan_digests(job);
  for (std::size_t level = 0; level < C::levels; ++level) {
    pool_logits(job, level);
  }
  LadderRuns<C> const runs = make_runs(job);  // lists the exact rows: after the pools' own lists
  exact_section(job, runs.list);
  if constexpr (C::page > 1 && !C::uniform) {  // only frozen granules' rows take part
    std::uint8_t const* const states = job.scratch->states();
    constexpr auto frozen = static_cast<std::uint8_t>(Fidelity::frozen);
    for (int i = 0; i < runs.run[0].rows / C::page; ++i) {
      for (int h = 0;
           (states[i] & GranuleState::fidelity_mask) != frozen && h < job.geometry().lane_queries;
           ++h) {
        std::fill_n(job.scratch->logits() + h * job.scratch->stride() +
                        static_cast<std::ptrdiff_t>(i) * C::page,
                    C::page, minus_infinity);
      }
    }
  }
  return runs;
}

/// Sums the masses of rows to those of granules, in place; the runs' rows become granules.
template <class C>
void sum_granules(LaneJob<C> const& job, LadderRuns<C>& runs) noexcept {
  if constexpr (C::page > 1) {
    for (std::size_t i = 0; i < LadderRuns<C>::count; ++i) {
      LogitRun& run = runs.run[i];
      int granules = 0;
      int row = 0;
      while (row < run.rows) {
        int rows = C::page;
        if (i == LadderRuns<C>::exact) {
          std::uint32_t const slot =
              runs.list.slots != nullptr ? runs.list.slots[row] : static_cast<std::uint32_t>(row);
          rows = job.ref.rows_of(job.ref.record(slot / C::page).granule);
        }
        Mass sum = 0;
        for (int const end = row + rows; row < end; ++row) {
          sum += run.masses[row];
        }
        run.masses[granules++] = sum;
      }
      run.rows = granules;
    }
    runs.run[0].states = job.scratch->states();
  }
}

}  // namespace kvfreeze::host
