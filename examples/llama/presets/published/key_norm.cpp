#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_key_norm(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::KeyNorm<>>(settings);
}

std::unique_ptr<AttentionCache> make_key_norm_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::KeyNormScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares, kvfreeze::Layout<>>(settings);
}

}  // namespace llama
