#include "../cache_adaptor.hpp"
#include "published.hpp"
#include "recalled.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_snap_kv(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::SnapKv<>>(settings, {.pooled = 5});
}

std::unique_ptr<AttentionCache> make_snap_kv_recalled(CacheSettings const& settings) {
  using Scorer = kvfreeze::WindowMassScorer<Codes>;
  return make_recalled<Scorer, kvfreeze::EqualShares, kvfreeze::Layout<>>(settings, {.pooled = 5});
}

}  // namespace llama
