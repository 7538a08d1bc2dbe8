#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_key_diff(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::KeyDiff<>>(settings);
}

std::unique_ptr<AttentionCache> make_key_diff_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::KeyDifferenceScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares, kvfreeze::Layout<>>(settings);
}

}  // namespace llama
