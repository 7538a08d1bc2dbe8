#pragma once

#include <kvfreeze/compact_rows.hpp>
#include <kvfreeze/element.hpp>
#include <kvfreeze/types.hpp>

#include <concepts>

namespace kvfreeze {

/// @brief How rows lie in memory and what changes state together.
/// @tparam T element type of K and V: float, Half or BFloat16
/// @tparam PageTokens rows of a granule: 1, 4 or 16; a granule freezes and thaws as one
/// @tparam Lanes one active set per KV head or per layer
/// @tparam Compact forms of rows between exact and frozen, @see CompactRows
/// @tparam MaxHeadDim the largest head_dim of a shape, a multiple of 8 in [8, 512], or 0: the
/// backend's own bound. Name the model's head_dim where it is known when you compile: the device's
/// kernels are then made once, and not for 64, 128 and 256, in half the time. The host has one set
/// of kernels anyway
/// @tparam MaxGroup the most query heads for each KV head of a shape, in [1, 64], or 0: any. Name
/// the model's number: of three scans of the digests the device then has one
template <Element T = Half, int PageTokens = 1, Grouping Lanes = Grouping::kv_head,
          class Compact = CompactRows<>, int MaxHeadDim = 0, int MaxGroup = 0>
struct Layout {
  static_assert(PageTokens == 1 || PageTokens == 4 || PageTokens == 16,
                "kvfreeze: PageTokens must be 1, 4 or 16");
  static_assert(MaxHeadDim >= 0 && MaxHeadDim <= 512 && MaxHeadDim % 8 == 0,
                "kvfreeze: MaxHeadDim must be a multiple of 8 in [8, 512], or 0");
  static_assert(MaxGroup >= 0 && MaxGroup <= 64, "kvfreeze: MaxGroup must be in [1, 64], or 0");
  using element_type = T;
  using compact_rows = Compact;
  static constexpr int page_tokens = PageTokens;
  static constexpr Grouping grouping = Lanes;
  static constexpr int max_head_dim = MaxHeadDim;
  static constexpr int max_group = MaxGroup;
};

template <class L>
concept LayoutPolicy = requires {
  requires Element<typename L::element_type>;
  { L::page_tokens } -> std::convertible_to<int>;
  { L::grouping } -> std::convertible_to<Grouping>;
  { L::max_head_dim } -> std::convertible_to<int>;
  { L::max_group } -> std::convertible_to<int>;
};

}  // namespace kvfreeze
