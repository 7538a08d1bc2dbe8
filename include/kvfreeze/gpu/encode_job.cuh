#pragma once

#include <kvfreeze/element.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// @brief One digest group of one KV head that is to be made of exact rows.
///
/// All addresses are of device memory. Row i of the group lies `stride * (rows ? rows[i] : i)`
/// elements behind the first. A job without `group` does nothing, so that a step may fill in a job
/// for every lane and let the lanes that have no full group leave theirs empty.
template <Element T>
struct alignas(16) EncodeJob {
  T const* keys = nullptr;              ///< aligned to 16
  T const* values = nullptr;            ///< for `means`; aligned to 16
  std::ptrdiff_t stride = 0;            ///< elements from row to row, a multiple of 8
  std::uint32_t const* rows = nullptr;  ///< [group_rows]; a row that is gone has its predecessor's
  float const* importance = nullptr;    ///< [dim], summed squares of the queries by channel
  std::byte* group = nullptr;           ///< Digest::bytes(dim), aligned to 16
  float* means = nullptr;               ///< [dim], is given the mean values of the rows; or null
};

}  // namespace kvfreeze::gpu
