#pragma once

#include <kvfreeze/host/geometry.hpp>
#include <kvfreeze/host/virtual_memory.hpp>
#include <kvfreeze/tier/request.hpp>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::host {

inline constexpr int prefill_rows = 64;     ///< rows of a tile, as in the decode kernel
inline constexpr int prefill_queries = 64;  ///< queries that share a tile
inline constexpr int transfer_batch = 64;   ///< granules of one request to the tier

/// @brief Work space of one part, reserved once; pages are committed as sequences grow.
///
/// Arrays that grow with the context come last and start on pages, so that what is committed
/// follows from the longest lane: `bytes(rows)`.
class Scratch {
 public:
  Scratch() = default;

  explicit Scratch(Geometry const& g) {
    auto const queries = static_cast<std::size_t>(g.lane_queries);
    auto const dim = static_cast<std::size_t>(g.shape.head_dim);
    auto const group = static_cast<std::size_t>(g.group);
    std::size_t at = 0;
    auto const take = [&at](std::size_t bytes) {
      std::size_t const offset = at;
      at += round_up(bytes, 64);
      return offset;
    };
    query_ = take(queries * dim * sizeof(float));
    out_ = take(queries * dim * sizeof(float));
    max_ = take(queries * sizeof(float));
    sum_ = take(queries * sizeof(float));
    prefill_query_ = take(prefill_queries * group * dim * sizeof(float));
    prefill_out_ = take(prefill_queries * group * dim * sizeof(float));
    prefill_max_ = take(prefill_queries * group * sizeof(float));
    prefill_sum_ = take(prefill_queries * group * sizeof(float));
    tile_k_ = take(static_cast<std::size_t>(prefill_rows) * dim * sizeof(float));
    tile_v_ = take(static_cast<std::size_t>(prefill_rows) * dim * sizeof(float));
    tile_positions_ = take(prefill_rows * sizeof(std::int32_t));
    group_keys_ = take(static_cast<std::size_t>(256) * dim * sizeof(float));
    loaded_ = take(static_cast<std::size_t>(transfer_batch) * g.granule_bytes());
    requests_ = take(transfer_batch * sizeof(StoreRequest));
    chosen_ = take(transfer_batch * sizeof(std::uint32_t));
    fixed_ = round_up(at, page_bytes);
    auto const rows = static_cast<std::size_t>(g.max_tokens_rounded());
    region_ = round_up(rows * sizeof(float), page_bytes);
    growing_ = queries + 5;  // logits of each head; masses, scores, lists a and b, flags
    memory_ = VirtualMemory::reserve(fixed_ + growing_ * region_);
  }

  [[nodiscard]] float* query() const noexcept { return at<float>(query_); }  ///< octaves

  [[nodiscard]] float* out() const noexcept { return at<float>(out_); }

  [[nodiscard]] float* max() const noexcept { return at<float>(max_); }

  [[nodiscard]] float* sum() const noexcept { return at<float>(sum_); }

  [[nodiscard]] float* prefill_query() const noexcept { return at<float>(prefill_query_); }

  [[nodiscard]] float* prefill_out() const noexcept { return at<float>(prefill_out_); }

  [[nodiscard]] float* prefill_max() const noexcept { return at<float>(prefill_max_); }

  [[nodiscard]] float* prefill_sum() const noexcept { return at<float>(prefill_sum_); }

  [[nodiscard]] float* tile_k() const noexcept { return at<float>(tile_k_); }

  [[nodiscard]] float* tile_v() const noexcept { return at<float>(tile_v_); }

  [[nodiscard]] std::int32_t* tile_positions() const noexcept {
    return at<std::int32_t>(tile_positions_);
  }

  [[nodiscard]] float* group_keys() const noexcept { return at<float>(group_keys_); }

  [[nodiscard]] std::byte* loaded() const noexcept { return at<std::byte>(loaded_); }

  [[nodiscard]] StoreRequest* stores() const noexcept { return at<StoreRequest>(requests_); }

  [[nodiscard]] LoadRequest* loads() const noexcept { return at<LoadRequest>(requests_); }

  [[nodiscard]] std::uint32_t* chosen() const noexcept { return at<std::uint32_t>(chosen_); }

  /// Logits in octaves, `logits()[head * stride() + row]`.
  [[nodiscard]] float* logits() const noexcept { return growing<float>(0); }

  [[nodiscard]] std::ptrdiff_t stride() const noexcept {
    return static_cast<std::ptrdiff_t>(region_ / sizeof(float));
  }

  [[nodiscard]] std::uint32_t* masses() const noexcept {
    return growing<std::uint32_t>(growing_ - 5);
  }

  [[nodiscard]] float* scores() const noexcept { return growing<float>(growing_ - 4); }

  [[nodiscard]] std::uint32_t* list() const noexcept {
    return growing<std::uint32_t>(growing_ - 3);
  }

  [[nodiscard]] std::uint32_t* slots() const noexcept {
    return growing<std::uint32_t>(growing_ - 2);
  }

  [[nodiscard]] std::uint8_t* flags() const noexcept { return growing<std::uint8_t>(growing_ - 1); }

  /// Commits what a lane of `rows` rows may use; growing only.
  void commit(int rows) noexcept {
    if (!touched_) {
      for (std::size_t i = 0; i < fixed_; i += page_bytes) {
        memory_.data()[i] = std::byte{0};
      }
      touched_ = true;
    }
    std::size_t const wanted = grown(rows);
    for (std::size_t offset = committed_; offset < wanted; offset += page_bytes) {
      for (std::size_t k = 0; k < growing_; ++k) {
        memory_.data()[fixed_ + k * region_ + offset] = std::byte{0};
      }
    }
    committed_ = committed_ < wanted ? wanted : committed_;
  }

  /// What is committed at this moment.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return touched_ ? fixed_ + growing_ * committed_ : 0;
  }

  /// What would be committed for lanes of `rows` rows.
  [[nodiscard]] std::size_t bytes(int rows) const noexcept {
    std::size_t const wanted = grown(rows);
    return fixed_ + growing_ * (wanted < committed_ ? committed_ : wanted);
  }

 private:
  static std::size_t grown(int rows) noexcept {
    return round_up(static_cast<std::size_t>(rows < 1 ? 1 : rows) * sizeof(float), page_bytes);
  }

  template <class T>
  [[nodiscard]] T* at(std::size_t offset) const noexcept {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

  template <class T>
  [[nodiscard]] T* growing(std::size_t index) const noexcept {
    return reinterpret_cast<T*>(memory_.data() + fixed_ + index * region_);
  }

  VirtualMemory memory_;
  std::size_t query_ = 0, out_ = 0, max_ = 0, sum_ = 0;
  std::size_t prefill_query_ = 0, prefill_out_ = 0, prefill_max_ = 0, prefill_sum_ = 0;
  std::size_t tile_k_ = 0, tile_v_ = 0, tile_positions_ = 0, group_keys_ = 0;
  std::size_t loaded_ = 0, requests_ = 0, chosen_ = 0;
  std::size_t fixed_ = 0;
  std::size_t region_ = 0;
  std::size_t growing_ = 0;
  std::size_t committed_ = 0;
  bool touched_ = false;
};

}  // namespace kvfreeze::host
