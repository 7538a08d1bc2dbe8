#pragma once

#include <kvfreeze/element.hpp>

#include <cstddef>

namespace kvfreeze::gpu {

/// @brief One exact row of one KV head that is to be coded: into a slot of a compact level's pool.
///
/// All addresses are of device memory. A job without `values` does nothing.
template <Element T>
struct alignas(16) CodeJob {
  T const* key = nullptr;            ///< [dim]
  T const* value = nullptr;          ///< [dim]
  float const* means = nullptr;      ///< [dim], mean values of the lane
  std::byte const* group = nullptr;  ///< digest of the row's group, if there are lower key bits
  std::byte* residual = nullptr;     ///< host::residual_bytes(dim), aligned to 16
  std::byte* values = nullptr;       ///< host::value_code_bytes(dim), aligned to 16
  BFloat16* scale = nullptr;
};

}  // namespace kvfreeze::gpu
