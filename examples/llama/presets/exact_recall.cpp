#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_exact_recall(CacheSettings const& settings) {
  if (settings.tier == TierChoice::in_place) {
    return make_cache<kvfreeze::presets::ExactRecall<kvfreeze::Half, kvfreeze::InPlaceTier>>(
        settings);
  }
  return make_cache<kvfreeze::presets::ExactRecall<>>(settings);
}

}  // namespace llama
