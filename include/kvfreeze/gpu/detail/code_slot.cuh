#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/geometry.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu::detail {

/// @brief A compact row of a lane: its page is looked up once for all that there is of it.
///
/// Pages have multiples of four: granule() and stamp() of a multiple of four have those of the next
/// three behind them, aligned.
template <class C>
class CodeSlot {
 public:
  /// @param page with the row
  /// @param within the row's number on it
  __device__ CodeSlot(std::byte* page, PoolPage const& pool, std::uint32_t per_page,
                      std::uint32_t within)
      : page_(page), pool_(pool), per_page_(per_page), within_(within) {}

  /// Lower bits of its key, of one of the lane's KV heads.
  [[nodiscard]] __device__ std::byte* residual(int head) const {
    return page_ + of_head(head) * pool_.residual_bytes;
  }

  [[nodiscard]] __device__ std::byte* values(int head) const {
    return page_ + pool_.values + of_head(head) * pool_.value_bytes;
  }

  [[nodiscard]] __device__ BFloat16& scale(int head) const {
    return reinterpret_cast<BFloat16*>(page_ + pool_.scales)[of_head(head)];
  }

  [[nodiscard]] __device__ std::uint32_t& granule() const {
    return reinterpret_cast<std::uint32_t*>(page_ + pool_.granules)[within_];
  }

  [[nodiscard]] __device__ std::uint16_t& stamp() const {
    return reinterpret_cast<std::uint16_t*>(page_ + pool_.stamps)[within_];
  }

 private:
  [[nodiscard]] __device__ std::uint32_t of_head(int head) const {
    if constexpr (C::by_layer) {
      return static_cast<std::uint32_t>(head) * per_page_ + within_;
    } else {
      return within_;
    }
  }

  std::byte* page_;
  PoolPage const& pool_;
  std::uint32_t per_page_;
  std::uint32_t within_;
};

}  // namespace kvfreeze::gpu::detail
