#include "cache_adaptor.hpp"
#include "presets.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_kv_freeze(CacheSettings const& settings) {
  if (settings.tier == TierChoice::in_place) {  // rows that never move have no compact form
    return make_exact_recall(settings);
  }
  return make_cache<kvfreeze::presets::KvFreeze<>>(settings);
}

}  // namespace llama
