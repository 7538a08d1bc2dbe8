#include "../cache_adaptor.hpp"
#include "published.hpp"

namespace llama {

std::unique_ptr<AttentionCache> make_ark_vale(CacheSettings const& settings) {
  return make_cache<kvfreeze::presets::ArkVale<>>(settings, {}, {.fraction = 1.0F});
}

}  // namespace llama
