#pragma once

#include <kvfreeze/element.hpp>
#include <kvfreeze/gpu/divisor.cuh>
#include <kvfreeze/gpu/paged_rows.cuh>

#include <cstddef>
#include <cstdint>

namespace kvfreeze::gpu {

/// @brief Rows of one lane at one compact level: V codes as host/kernels/value_codes.hpp has them,
/// in pages, and logits that somebody estimated.
///
/// Row i is row i % page_rows of page `pages[i / page_rows]`. Codes of a page's rows lie side by
/// side, host::value_code_bytes(head_dim) bytes each, and so do the scales. With page_rows = 16 and
/// no page numbers these are blocks as host::CodeRows has them.
struct ValueCodeRows {
  std::byte const* base = nullptr;       ///< page 0; a multiple of 16
  std::uint32_t const* pages = nullptr;  ///< page numbers, or null: 0, 1, ...
  std::size_t page_bytes = 0;            ///< from page to page, a multiple of 16
  Divisor page_rows = 16U;               ///< rows on a page, at least 1
  std::uint32_t values = 0;              ///< first row's codes within a page, a multiple of 16
  std::uint32_t scales = 0;              ///< first row's BFloat16 scale within a page, even
  float const* logits = nullptr;  ///< `logits[h * stride + i * row_stride]` of row i, octaves
  std::size_t stride = 0;         ///< floats from query head to query head
  std::uint32_t row_stride = 1;   ///< floats from row to row
};

/// @brief What attention needs to know of a lane, one KV head of one sequence. How many rows there
/// are, which steps change, is told apart.
///
/// Rows come in 2 + levels runs: exact rows, of which K and V are read; the first so many of the
/// same rows, whose logits are known already, so that V alone is read; then the rows of each
/// compact level. Compact values are relative to the lane's mean value and rotated, as
/// host::push_code makes them.
///
/// Rows that are not here at all may count by their weight and the mean value: those of head h
/// weigh `absent[h]` * 2^(`highest[h]` - 24) together, `absent[h]` being what host::sum_weights
/// gives.
/// @tparam T element type of exact rows
/// @tparam Bits of the V codes of each compact level
template <Element T, int... Bits>
struct AttentionLane {
  using Value = T;
  static constexpr int levels = sizeof...(Bits);
  static constexpr int runs = 2 + levels;  ///< exact rows in all, known ones among them, levels

  PagedRows<T> rows;
  float* logits = nullptr;  ///< `logits[h * stride + i]` of exact row i, octaves: read of known
                            ///< rows, written of others if `notes` and not null
  std::size_t stride = 0;   ///< floats from query head to query head
  std::uint64_t notes = 1;  ///< 0: attention writes no logits, so that there is room for known
                            ///< rows only
  ValueCodeRows codes[sizeof...(Bits)];
  float const* means = nullptr;    ///< [head_dim], mean value
  float const* absent = nullptr;   ///< [group], or null: nothing is absent
  float const* highest = nullptr;  ///< [group], octaves; with `absent`
};

/// A lane of exact rows alone. Their number is its one run.
template <Element T>
struct AttentionLane<T> {
  using Value = T;
  static constexpr int levels = 0;
  static constexpr int runs = 1;

  PagedRows<T> rows;
  float* logits = nullptr;  ///< `logits[h * stride + i]` of row i, octaves: written, unless null
  std::size_t stride = 0;   ///< floats from query head to query head
  std::uint64_t notes = 1;  ///< 0: attention writes no logits
};

/// @brief A batch of lanes described in device memory. A kernel may change descriptions and numbers
/// of rows between two uses, so that a captured graph serves lanes that grow.
///
/// Functions over lanes take any trivially copyable type with these members: a cache whose kernels
/// know where a lane's rows are needs no descriptions.
/// @tparam Bits as in AttentionLane; none: exact rows alone
template <Element T, int... Bits>
struct AttentionLanes {
  using Lane = AttentionLane<T, Bits...>;

  Span<Lane const> lanes;            ///< device memory
  Span<std::uint32_t const> counts;  ///< [runs][lanes], device memory: rows of each run

  [[nodiscard]] KVFREEZE_HD std::size_t size() const { return lanes.size(); }

  [[nodiscard]] __device__ Lane const& lane(std::uint32_t i) const { return lanes.data()[i]; }

  [[nodiscard]] __device__ std::uint32_t rows(int run, std::uint32_t i) const {
    return counts.data()[static_cast<std::size_t>(run) * lanes.size() + i];
  }
};

}  // namespace kvfreeze::gpu
