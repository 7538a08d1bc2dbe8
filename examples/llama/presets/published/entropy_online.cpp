#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_entropy_online(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::EntropyOnline<>>(settings);
}

std::unique_ptr<AttentionCache> make_entropy_online_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::WindowMassScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EntropyShares, kvfreeze::Layout<>>(settings);
}

}  // namespace llama
