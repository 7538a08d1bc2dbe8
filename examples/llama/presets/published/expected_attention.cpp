#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_expected_attention(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::ExpectedAttention<>>(settings);
}

std::unique_ptr<AttentionCache> make_expected_attention_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::ExpectedAttentionScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares, kvfreeze::Layout<>>(settings);
}

}  // namespace llama
