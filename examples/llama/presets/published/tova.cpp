#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_tova(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::Tova<>>(settings);
}

std::unique_ptr<AttentionCache> make_tova_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::InstantMassScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares,
                       kvfreeze::Layout<kvfreeze::Half, 1, kvfreeze::Grouping::layer>>(settings);
}

}  // namespace llama
