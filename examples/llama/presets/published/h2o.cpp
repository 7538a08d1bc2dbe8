#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_h2o(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::H2o<>>(settings);
}

std::unique_ptr<AttentionCache> make_h2o_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::CumulativeMassScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares, kvfreeze::Layout<>>(settings);
}

}  // namespace llama
