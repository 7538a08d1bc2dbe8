#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_asr_kf_egr_eager(CacheSettings const& settings) {
  if (settings.tier == TierChoice::in_place) {
    return make_cache<kvfreeze::presets::AsrKfEgrEager<kvfreeze::Half, kvfreeze::InPlaceTier>>(
        settings);
  }
  return make_cache<kvfreeze::presets::AsrKfEgrEager<>>(settings);
}

}  // namespace llama
