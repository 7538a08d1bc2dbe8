#pragma once

#include <kvfreeze/published_presets.hpp>

#include "../cache_adaptor.hpp"

#include <memory>

namespace llama {

/// The digest with which the scorers of eviction rules are asked for frozen rows.
using Codes = kvfreeze::KeyCodes<2>;

/// @brief An eviction rule with a tier: what recall adds to it.
template <kvfreeze::ScorerPolicy Scorer, kvfreeze::LaneShares Shares, kvfreeze::LayoutPolicy Layout>
std::unique_ptr<AttentionCache> make_recalled(CacheSettings const& settings, Scorer scorer = {}) {
  return make_cache<kvfreeze::presets::Recalled<Scorer, Shares, Layout>>(settings, scorer);
}

}  // namespace llama
