#pragma once

/// @file
/// @brief What tests of the movers share: a pool, lists of jobs, and where bytes have to be after.

#include <kvfreeze/gpu/granule_pool.cuh>
#include <kvfreeze/gpu/move_job.cuh>
#include <kvfreeze/tier/request.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <gpu/device.cuh>
#include <iterator>
#include <laws/random.hpp>
#include <numeric>
#include <vector>

namespace kvfreeze::gpu::test {

/// Bytes that differ from one another for some time.
inline std::vector<std::byte> random_bytes(std::size_t size, std::uint64_t seed) {
  laws::Random random(seed);
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; i += 4) {
    std::uint32_t const word = random();
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(4, size - i));
  }
  return bytes;
}

/// @brief Index of the first element in which two arrays differ, or -1: a test that fails then does
/// not print megabytes.
template <class A, class B>
long first_difference(A const& a, B const& b) {
  auto const size = std::min(std::size(a), std::size(b));
  for (std::size_t i = 0; i < size; ++i) {
    if (std::data(a)[i] != std::data(b)[i]) {
      return static_cast<long>(i);
    }
  }
  return std::size(a) == std::size(b) ? -1 : static_cast<long>(size);
}

/// How rows lie on the device.
struct PoolShape {
  std::uint32_t row_bytes = 16;
  std::uint32_t granule_rows = 1;
  std::uint32_t page_slots = 1;
  std::size_t gap = 0;  ///< behind K and behind V of a page
  std::uint32_t slots = 64;

  [[nodiscard]] std::size_t part_bytes() const { return std::size_t{row_bytes} * granule_rows; }

  [[nodiscard]] std::size_t values_offset() const { return page_slots * part_bytes() + gap; }

  [[nodiscard]] std::size_t page_bytes() const { return 2 * values_offset(); }

  [[nodiscard]] std::size_t bytes() const { return slots / page_slots * page_bytes(); }

  [[nodiscard]] GranulePool view(Span<std::byte> memory) const {
    return {memory, row_bytes, granule_rows, page_slots, page_bytes(), values_offset()};
  }

  /// Where a row of a slot begins.
  [[nodiscard]] std::size_t at(std::uint32_t slot, std::uint32_t row, bool value) const {
    return slot / page_slots * page_bytes() + slot % page_slots * part_bytes() + row * row_bytes +
           (value ? values_offset() : 0);
  }
};

/// Jobs of which no two touch the same slot or granule.
/// @param whole granules; else any of their rows, none too
inline std::vector<MoveJob> random_jobs(PoolShape const& pool, TierGeometry const& geometry,
                                        std::size_t count, bool whole, std::uint64_t seed) {
  laws::Random random(seed);
  auto const shuffled = [&](std::size_t size) {
    std::vector<std::uint32_t> numbers(size);
    std::iota(numbers.begin(), numbers.end(), 0U);
    std::shuffle(numbers.begin(), numbers.end(), random);
    return numbers;
  };
  auto const slots = shuffled(pool.slots);
  std::size_t const lanes = std::size_t{geometry.sequences} * geometry.lanes;
  auto const granules = shuffled(lanes * geometry.granules);
  std::vector<MoveJob> jobs;
  for (std::size_t i = 0; i < std::min({count, slots.size(), granules.size()}); ++i) {
    std::uint32_t const lane = granules[i] / geometry.granules;
    MoveJob job;
    job.slot = slots[i];
    job.sequence = static_cast<std::uint16_t>(lane / geometry.lanes);
    job.lane = lane % geometry.lanes;
    job.granule = granules[i] % geometry.granules;
    job.rows = static_cast<std::uint8_t>(pool.granule_rows);
    if (!whole) {
      job.first_row = static_cast<std::uint8_t>(random.below(pool.granule_rows));
      job.rows = static_cast<std::uint8_t>(random.below(pool.granule_rows - job.first_row + 1));
    }
    jobs.push_back(job);
  }
  return jobs;
}

/// Calls f(offset in the pool, sequence, offset in its slab, bytes) for K and V of a job.
template <class F>
void for_each_part(PoolShape const& pool, TierGeometry const& geometry, MoveJob const& job,
                   F const& f) {
  std::size_t const granule = std::size_t{job.lane} * geometry.granules + job.granule;
  for (bool const value : {false, true}) {
    std::size_t const slab = granule * 2 * geometry.part_bytes + job.first_row * pool.row_bytes +
                             (value ? geometry.part_bytes : 0);
    f(pool.at(job.slot, job.first_row, value), job.sequence, slab,
      std::size_t{job.rows} * pool.row_bytes);
  }
}

/// Bytes of each lane's jobs.
inline std::vector<std::uint64_t> bytes_of_lanes(PoolShape const& pool,
                                                 TierGeometry const& geometry,
                                                 std::vector<MoveJob> const& jobs) {
  std::vector<std::uint64_t> bytes(std::size_t{geometry.sequences} * geometry.lanes);
  for (MoveJob const& job : jobs) {
    bytes[job.sequence * geometry.lanes + job.lane] += 2ULL * job.rows * pool.row_bytes;
  }
  return bytes;
}

}  // namespace kvfreeze::gpu::test
