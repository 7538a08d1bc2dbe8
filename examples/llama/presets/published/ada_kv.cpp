#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_ada_kv(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::AdaKv<>>(settings, {.pooled = 5});
}

std::unique_ptr<AttentionCache> make_ada_kv_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::WindowMassScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::HeadSplitShares, kvfreeze::Layout<>>(settings,
                                                                              {.pooled = 5});
}

}  // namespace llama
